"""What the active party publishes of each epoch, kept for its own report: the same as the coordinator records."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from vfl.ids import Split
from vfl.run_records.result import BEST


class EpochHistory:
    """Mean losses and validation metrics by epoch, whose numbers count from 1."""

    def __init__(self) -> None:
        self._losses: dict[int, tuple[float, int]] = {}
        self._scores: dict[int, dict[str, float]] = {}

    def trained(self, epoch: int, loss: float) -> None:
        """Add the loss of a training step."""
        total, steps = self._losses.get(epoch, (0.0, 0))
        self._losses[epoch] = total + loss, steps + 1

    def scored(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Add the metrics of the validation rows after an epoch."""
        self._scores[epoch] = dict(metrics)

    def records(self, best: Iterable[int] = ()) -> list[dict[str, float]]:
        """In the form of ``RunResult.history``.

        Args:
            best: epochs whose models were kept.
        """
        kept = set(best)
        return [
            {"epoch": float(epoch), "loss": total / steps}
            | {f"{Split.VALIDATION}_{name}": value for name, value in self._scores.get(epoch, {}).items()}
            | ({BEST: 1.0} if epoch in kept else {})
            for epoch, (total, steps) in sorted(self._losses.items())
        ]

    def to_json(self) -> str:
        """Text for a checkpoint."""
        return json.dumps([list(self._losses.items()), list(self._scores.items())])

    def load_json(self, text: str) -> None:
        """Continue from what ``to_json`` returned."""
        losses, scores = json.loads(text)
        self._losses = {epoch: (total, steps) for epoch, (total, steps) in losses}
        self._scores = dict(scores)
