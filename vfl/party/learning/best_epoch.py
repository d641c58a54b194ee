"""The best of the epochs that the active party trains alone, and its model as it was then.

No other party's state changes in them, so going back to one of them concerns nobody else, and releases nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vfl.job.best_epoch import BestSoFar
from vfl.party.learning.bottom import prefixed, under
from vfl.party.learning.own_model import OwnModel

_MODEL, _BEST, _LAST = "model", "best", "last"


class BestEpoch(BestSoFar):
    """The best epoch so far, with the model.

    Args:
        model: what is trained.
        metric: higher is better.
        patience: epochs without a better one after which training need not go on; None for no limit.

    Attributes:
        loss: of the last epoch that was trained.
    """

    def __init__(self, model: OwnModel, metric: str, patience: int | None = None) -> None:
        super().__init__(metric, patience)
        self._model = model
        self._state: dict[str, Tensor] = {}
        self._last = 0
        self.loss = 0.0

    def consider(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """See ``BestSoFar``; keep the model as it is if it is better than before."""
        self._last = epoch
        better = super().consider(epoch, metrics)
        if better:
            self._state = {name: value.detach().clone() for name, value in self._model.state().items()}
        return better

    @property
    def patience_is_over(self) -> bool:
        """Whether the last epochs were all no better."""
        return self.ends_after(self._last)

    def restore(self) -> None:
        """Give the model back the state of the best epoch, if any was scored."""
        if self.epoch is not None:
            self._model.load_state(self._state)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        if self.epoch is None:
            return {}
        numbers = {
            _BEST: torch.tensor([self.epoch, self.score], dtype=torch.float64),
            _LAST: torch.tensor([self._last, self.loss], dtype=torch.float64),
        }
        return prefixed(_MODEL, self._state) | numbers

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` returned."""
        if _BEST in state:
            (epoch, self.score), (last, self.loss) = state[_BEST].tolist(), state[_LAST].tolist()
            self.epoch, self._last = int(epoch), int(last)
            self._state = under(_MODEL, state)
