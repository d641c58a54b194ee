"""What a job does, in its order and with its step numbers: the same in every attempt, so that any step can be gone on
from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vfl.data.split import epoch_batches
from vfl.he.bounds import Workload
from vfl.ids import Batch, Split
from vfl.job.config import JobConfig


@dataclass(frozen=True, slots=True)
class TrainStep:
    """Train on one batch of so many rows."""

    step: int
    batch: Batch
    rows: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Score all rows of a split; its batches take the steps from ``first_step`` on."""

    first_step: int
    split: Split
    epoch: int
    batches: tuple[Batch, ...]

    @property
    def last_step(self) -> int:
        """The step of its last batch."""
        return self.first_step + len(self.batches) - 1


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """The epoch is over, and what belongs to it has been scored."""

    last_step: int
    epoch: int


class Schedule:
    """The work of a job.

    Args:
        rows: aligned rows of every split.
    """

    def __init__(self, job: JobConfig, rows: Mapping[Split, int]) -> None:
        self._job = job
        self._rows = rows

    @property
    def epoch_steps(self) -> int:
        """Training steps of an epoch."""
        return len(self._batches(Split.TRAIN, 0))

    def __iter__(self) -> Iterator[TrainStep | EpochEnd | Evaluation]:
        training, step = self._job.training, 0
        for epoch in range(training.epochs):
            for batch, rows in self._batches(Split.TRAIN, epoch):
                step += 1
                yield TrainStep(step, batch, rows)
            if (epoch + 1) % training.evaluate_every == 0 or epoch + 1 == training.epochs:
                evaluation = self._evaluation(Split.VALIDATION, epoch, step + 1)
                step = evaluation.last_step
                yield evaluation
            yield EpochEnd(step, epoch)
        yield self._evaluation(Split.TEST, training.epochs, step + 1)

    def _evaluation(self, split: Split, epoch: int, first_step: int) -> Evaluation:
        return Evaluation(first_step, split, epoch, tuple(batch for batch, _ in self._batches(split, epoch)))

    def _batches(self, split: Split, epoch: int) -> list[tuple[Batch, int]]:
        """Batches of an epoch with their sizes, by the rule that the parties follow too."""
        if not self._rows[split]:
            return []
        training = self._job.training
        size = training.batch_size if split is Split.TRAIN else training.evaluation_batch_size
        rows = np.arange(self._rows[split], dtype=np.int64)
        plan = epoch_batches(rows, size, self._job.seed, epoch, shuffle=split is Split.TRAIN)
        return [(Batch(split, epoch, index), len(batch)) for index, batch in enumerate(plan)]


def workload(job: JobConfig, rows: Mapping[Split, int]) -> Workload:
    """How often a schedule has batches of each size, without making it: that sorts all rows for every epoch.

    Args:
        rows: aligned rows of every split.
    """
    training = job.training
    trained: Counter[int] = Counter()
    full, rest = divmod(rows[Split.TRAIN], training.batch_size)
    trained[training.batch_size] = full * training.epochs
    if 2 * rest >= training.batch_size:
        trained[rest] += training.epochs
    scored: Counter[int] = Counter()
    for split, times in ((Split.VALIDATION, -(-training.epochs // training.evaluate_every)), (Split.TEST, 1)):
        full, rest = divmod(rows[split], training.evaluation_batch_size)
        scored[training.evaluation_batch_size] += full * times
        scored[rest] += times
    return Workload(*({size: n for size, n in sizes.items() if size and n} for sizes in (trained, scored)))
