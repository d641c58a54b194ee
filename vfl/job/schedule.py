"""What a job does, in its order and with its step numbers: the same in every attempt, so that a run can resume at any
step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from vfl.data.split import epoch_batches
from vfl.he.bounds import Workload
from vfl.ids import Batch, Phase, Split
from vfl.job.config import JobConfig
from vfl.job.plan import EpochKind, Plan

JOINT_PHASES = (
    Phase.BOTTOM_FORWARD,
    Phase.INTERACTION_FORWARD,
    Phase.TOP,
    Phase.INTERACTION_BACKWARD,
    Phase.WEIGHT_STEP,
    Phase.BOTTOM_BACKWARD,
)
GRADIENT_PHASES = (Phase.BOTTOM_FORWARD, Phase.RESIDUALS, Phase.INTERACTION_BACKWARD)
RELEASE_PHASES = (Phase.BOTTOM_FORWARD, Phase.INTERACTION_FORWARD, Phase.KEEP)
LOCAL_PHASES = (Phase.LOCAL_EPOCH,)
EVALUATION_PHASES = (Phase.BOTTOM_FORWARD, Phase.INTERACTION_FORWARD, Phase.SCORE)


@dataclass(frozen=True, slots=True)
class Step:
    """The phases of one batch of ``rows`` rows, for all parties. ``trains``: there is a loss to report."""

    step: int
    batch: Batch
    rows: int
    phases: tuple[Phase, ...]
    trains: bool

    @property
    def last_step(self) -> int:
        """Its number."""
        return self.step


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Score all rows of a split; its batches are the steps from ``first_step`` onward.

    Without batches, outputs that the active party keeps are scored, in a step without messages.
    """

    first_step: int
    split: Split
    epoch: int
    batches: tuple[Batch, ...]

    @property
    def last_step(self) -> int:
        """The step of the last batch."""
        return self.first_step + max(len(self.batches), 1) - 1


@dataclass(frozen=True, slots=True)
class BestPassCall:
    """A call about the best pass of joint training, which is made or left out by the metrics of the validation rows.

    Attributes:
        phase: ``MARK_BEST`` if the evaluated pass is the best so far; ``RESTORE_BEST`` after the last pass, if one was
            marked. The passes that are left are skipped with ``training.patience``.
        batch: names the pass; where one is to be restored, the last one of the plan in its place.
    """

    step: int
    phase: Phase
    batch: Batch

    @property
    def last_step(self) -> int:
        """Its step."""
        return self.step


@dataclass(frozen=True, slots=True)
class EpochEnd:
    """An epoch is over, and its evaluation, if any, is done. ``epoch`` counts those that train something."""

    last_step: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Due:
    """A call that parties may get next: a phase of a batch, or, without a phase, the score of a split."""

    step: int
    phase: Phase | None
    batch: Batch

    def __str__(self) -> str:
        if self.phase is Phase.RESTORE_BEST:
            return f"to go back to epoch {self.batch.epoch + 1}"
        if self.phase is None:
            return f"the score of the {self.batch.split} rows, epoch {self.batch.epoch + 1}"
        return f"{self.phase} of batch {self.batch.index + 1}, epoch {self.batch.epoch + 1} ({self.batch.split})"


class Schedule:
    """The work of a job.

    Args:
        rows: number of aligned rows in every split.
    """

    def __init__(self, job: JobConfig, rows: Mapping[Split, int]) -> None:
        self._job = job
        self._rows = rows
        self.plan = Plan(job)

    @property
    def epoch_steps(self) -> int:
        """Batches of the longest epoch that exchanges messages."""
        return max(len(self._batches(Split.TRAIN, at)) for at in range(len(self.plan.epochs)))

    def __iter__(self) -> Iterator[Step | EpochEnd | Evaluation | BestPassCall]:
        step, counted = 0, 0
        for number, epoch in enumerate(self.plan.epochs):
            for work in self._epoch(number, epoch.kind, step):
                step = work.last_step
                yield work
            if epoch.kind is EpochKind.RELEASE:
                continue
            if self._evaluates(epoch.kind, counted):
                evaluation = self._evaluation(Split.VALIDATION, number, step + 1, kept=epoch.kind is EpochKind.LOCAL)
                step = evaluation.last_step
                yield evaluation
                if epoch.kind is EpochKind.JOINT and self._job.keeps_best_pass:
                    yield BestPassCall(step, Phase.MARK_BEST, Batch(Split.VALIDATION, number, 0))
            yield EpochEnd(step, counted)
            counted += 1
            if self._restores_after(number):
                step += 1
                yield BestPassCall(step, Phase.RESTORE_BEST, Batch(Split.VALIDATION, number, 0))
        yield self._evaluation(Split.TEST, len(self.plan.epochs), step + 1, kept=False)

    def calls(self, done: int) -> Iterator[Due]:
        """Every phase and score after step ``done``, as the coordinator requests them and the parties expect them."""
        for work in self:
            match work:
                case Step() if work.step > done:
                    yield from (Due(work.step, phase, work.batch) for phase in work.phases)
                case Evaluation() if work.last_step > done:
                    for step, batch in enumerate(work.batches, work.first_step):
                        yield from (Due(step, phase, batch) for phase in EVALUATION_PHASES)
                    yield Due(work.last_step, None, Batch(work.split, work.epoch, 0))
                case BestPassCall() if work.step > done:
                    yield Due(work.step, work.phase, work.batch)

    def _restores_after(self, number: int) -> bool:
        return self._job.keeps_best_pass and bool(self._rows[Split.VALIDATION]) and number + 1 == self._job.passes

    def _epoch(self, number: int, kind: EpochKind, done: int) -> Iterator[Step]:
        splits = (Split.TRAIN, Split.VALIDATION) if kind is EpochKind.RELEASE else (Split.TRAIN,)
        phases, trains = _PHASES[kind], kind is not EpochKind.RELEASE
        planned = [batch for split in splits for batch in self._batches(split, number)]
        for step, (batch, rows) in enumerate(planned, done + 1):
            last = kind is EpochKind.GRADIENT and step == done + len(planned)
            yield Step(step, batch, rows, (*phases, Phase.WEIGHT_STEP) if last else phases, trains)

    def _evaluates(self, kind: EpochKind, counted: int) -> bool:
        if kind is EpochKind.GRADIENT or not self._rows[Split.VALIDATION]:
            return False
        every, epochs = self._job.training.evaluate_every, self.plan.counted_epochs
        return (counted + 1) % every == 0 or counted + 1 == epochs

    def _evaluation(self, split: Split, epoch: int, first_step: int, *, kept: bool) -> Evaluation:
        batches = () if kept else tuple(batch for batch, _ in self._batches(split, epoch))
        return Evaluation(first_step, split, epoch, batches)

    def _batches(self, split: Split, epoch: int) -> list[tuple[Batch, int]]:
        """Batches of an epoch with their sizes, by the rule that the parties follow too."""
        if not self._rows[split]:
            return []
        rows = np.arange(self._rows[split], dtype=np.int64)
        plan = planned_batches(self._job, self.plan, rows, Batch(split, epoch, 0))
        return [(Batch(split, epoch, index), len(batch)) for index, batch in enumerate(plan)]


_PHASES = {
    EpochKind.JOINT: JOINT_PHASES,
    EpochKind.LOCAL: LOCAL_PHASES,
    EpochKind.GRADIENT: GRADIENT_PHASES,
    EpochKind.RELEASE: RELEASE_PHASES,
}


def planned_batches(job: JobConfig, plan: Plan, rows: np.ndarray, batch: Batch) -> list[np.ndarray]:
    """The batches of an epoch of one split, of which ``batch`` is one.

    Args:
        rows: row positions of the split.
    """
    training = job.training
    match plan.kind(batch):
        case EpochKind.JOINT:
            return epoch_batches(rows, training.batch_size, job.seed, batch.epoch, shuffle=True)
        case EpochKind.LOCAL:
            return [rows]
    return epoch_batches(rows, training.evaluation_batch_size, job.seed, batch.epoch, shuffle=False)


def workloads(job: JobConfig, rows: Mapping[Split, int]) -> list[tuple[int, Workload]]:
    """How often batches of each size are exchanged, by the number of columns of Z, without making the schedule: that
    sorts all rows for every epoch.

    Args:
        rows: aligned rows of every split.
    """
    training, all_columns = job.training, job.interaction_width
    whole = {split: _sizes(rows[split], training.evaluation_batch_size) for split in Split}
    if job.stagewise:
        stage = Workload(_times(whole[Split.TRAIN], job.passes), _times(whole[Split.VALIDATION], job.passes))
        return [(all_columns // job.passes, stage), (all_columns, Workload({}, whole[Split.TEST]))]
    full, rest = divmod(rows[Split.TRAIN], training.batch_size)
    trained = Counter({training.batch_size: full, rest: int(2 * rest >= training.batch_size)})
    scored = Counter(whole[Split.TEST])
    scored.update(_times(whole[Split.VALIDATION], _evaluations(job)))
    if job.local_epochs:
        scored.update(whole[Split.TRAIN])
        scored.update(whole[Split.VALIDATION])
    occurring = {size: count for size, count in trained.items() if size and count}
    return [(all_columns, Workload(_times(occurring, job.passes), scored))]


def planned_releases(job: JobConfig) -> dict[Split, int]:
    """How often a run releases a row of each split, at most: batches that are too small are left out."""
    if job.stagewise:
        return {Split.TRAIN: job.passes, Split.VALIDATION: job.passes, Split.TEST: 1}
    at_the_end = 1 if job.local_epochs else 0
    return {Split.TRAIN: job.releases_per_row, Split.VALIDATION: _evaluations(job) + at_the_end, Split.TEST: 1}


def _evaluations(job: JobConfig) -> int:
    """Evaluations of the validation rows in the passes of joint training.

    They are scored on kept outputs after local epochs; after the last epoch of all, in any case.
    """
    every = job.training.evaluate_every
    return job.passes // every if job.local_epochs else -(-job.passes // every)


def _sizes(rows: int, batch_size: int) -> dict[int, int]:
    full, rest = divmod(rows, batch_size)
    return {size: count for size, count in ((batch_size, full), (rest, 1)) if size and count}


def _times(sizes: Mapping[int, int], times: int) -> dict[int, int]:
    return {size: count * times for size, count in sizes.items()}
