"""Which epoch was the best so far by the validation rows: one rule, which the coordinator and all parties follow."""

from __future__ import annotations

import math
from collections.abc import Mapping


class BestSoFar:
    """The first of the best epochs so far.

    The coordinator and the active party know the metrics and compare epochs by them; a passive party knows only which
    epochs were marked.

    Args:
        metric: name of the metric by which epochs are compared; higher is better.
        patience: epochs without a better one after which training ends; None for no limit.

    Attributes:
        epoch: counted from 0; None before any was scored.
        score: its metric.
        unmarked: the epoch is the best by its metric, and the parties have not been told so yet.
    """

    def __init__(self, metric: str, patience: int | None = None) -> None:
        self._metric = metric
        self._patience = patience
        self.epoch: int | None = None
        self.score = -math.inf
        self.unmarked = False

    def consider(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """Whether an epoch with these metrics is better than those before. A metric that is undefined decides nothing.

        Metrics are compared as they are published, rounded, so that everybody who knows them finds the same epoch.
        """
        score = metrics.get(self._metric, math.nan)
        better = score > self.score
        if better:
            self.epoch, self.score, self.unmarked = epoch, score, True
        return better

    def mark(self, epoch: int) -> None:
        """Take an epoch for the best one so far."""
        self.epoch, self.unmarked = epoch, False

    def ends_after(self, epoch: int) -> bool:
        """Whether the last epochs up to this one were all no better, and training may end."""
        return self._patience is not None and self.epoch is not None and epoch - self.epoch >= self._patience
