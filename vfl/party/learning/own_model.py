"""What the active party can train and score by itself: its bottom and its top, on outputs that it keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch import Tensor

from vfl.ids import Split
from vfl.models.seeding import seeded
from vfl.models.tasks.class_order import Labels
from vfl.party.learning.bottom import BottomTrainer, prefixed, under
from vfl.party.learning.dataset import Dataset, Rows
from vfl.party.learning.outputs.kept import KeptOutputs
from vfl.party.learning.top import TopTrainer
from vfl.runtime.progress import piece_finished

_UPPER, _BOTTOM = "upper", "bottom"


class OwnModel:
    """A bottom, if the party has features, and a top.

    Args:
        kept: Z of every row, as far as it was released.
    """

    def __init__(self, dataset: Dataset, bottom: BottomTrainer | None, upper: TopTrainer, kept: KeptOutputs) -> None:
        self._dataset = dataset
        self._bottom = bottom
        self.upper = upper
        self.kept = kept

    def labels_of(self, rows: Rows) -> Labels:
        """Raw labels (B,)."""
        labels = self._dataset.labels
        if labels is None:
            raise RuntimeError("the active party has no labels")
        return labels[rows]

    def update(self, share_of_rate: float = 1.0) -> None:
        """Take a step of bottom and top with the gradients of the last batch."""
        if self._bottom is not None:
            self._bottom.backward(self.upper.d_alpha, share_of_rate)
        self.upper.step(share_of_rate)

    def epoch(self, batches: Iterable[tuple[Rows, float]], seed: Callable[[int], int]) -> float:
        """Train on some batches; the mean loss over their rows.

        Args:
            batches: rows, with the share of the learning rate.
            seed: of layers that draw at random, by the number of the batch.
        """
        total, count = 0.0, 0
        for at, (rows, share) in enumerate(batches):
            with seeded(seed(at)):
                alpha_BD = self._alpha(rows, training=True)
            weights = self._dataset.weights_of(rows)
            loss, _ = self.upper.train(self.kept.of(rows), alpha_BD, self.labels_of(rows), weights)
            self.update(share)
            total, count = total + loss * len(rows), count + len(rows)
            piece_finished()
        return total / count

    def score(self, split: Split) -> dict[str, float]:
        """Metrics on all rows of a split, by what is kept of them; NaN where one is undefined."""
        rows = self._dataset.rows_of(split)
        self.upper.score(self.kept.of(rows), self._alpha(rows, training=False), self.labels_of(rows))
        return self.upper.metrics()

    def state(self) -> dict[str, Tensor]:
        """All that training changes."""
        bottom = {} if self._bottom is None else prefixed(_BOTTOM, self._bottom.state())
        return prefixed(_UPPER, self.upper.state()) | bottom

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned.

        Raises:
            RuntimeError: the state belongs to a different model.
        """
        self.upper.load_state(under(_UPPER, state))
        if self._bottom is not None:
            self._bottom.load_state(under(_BOTTOM, state))

    def _alpha(self, rows: Rows, *, training: bool) -> Tensor | None:
        if self._bottom is None:
            return None
        return self._bottom.forward(self._dataset.features(rows), training=training)
