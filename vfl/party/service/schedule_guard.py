"""A party derives the schedule of a run itself and takes part in nothing else.

The coordinator is not trusted with the choice of what is computed: a coordinator that has single batches scored, or
steps repeated, reads labels from the metrics and has values released that no policy agreed to.
"""

from __future__ import annotations

from dataclasses import replace

from vfl.errors import PolicyRefusal
from vfl.ids import Batch, Phase, Role, Split, StepKey
from vfl.job.best_epoch import BestSoFar
from vfl.job.schedule import Due, Schedule
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")


class ScheduleGuard:
    """Compares every call of an attempt with the one that is due.

    Whether a pass of joint training is marked as the best so far, and whether the passes end early, depends on metrics.
    The active party knows them and accepts only what follows from them. A passive party accepts what follows from some
    metrics: any evaluated pass may be the best so far, passes end early only where ``training.patience`` allows it,
    and the pass to go back to is the one that was marked last.

    Args:
        schedule: as this party derives it from the job and the numbers of aligned rows.
        done: the step after which the attempt continues; 0 at the beginning.
        role: of this party; only the active one is asked for scores.
        best: the best pass so far, in which the role notes what it scores and marks; None in a job without the choice.
    """

    def __init__(self, schedule: Schedule, done: int, role: Role, best: BestSoFar | None = None) -> None:
        self._active = role is Role.ACTIVE
        self._schedule = schedule
        self._best = best or BestSoFar("")
        self._calls = (due for due in schedule.calls(done) if self._active or due.phase is not None)
        self._ahead: list[Due] = []
        self._last_step = done

    def phase(self, key: StepKey, phase: Phase, batch: Batch) -> None:
        """Accept the next phase of a step.

        Raises:
            PolicyRefusal: another call is due.
        """
        self._accept(Due(key.step, phase, batch))

    def score(self, split: Split, epoch: int) -> None:
        """Accept the score of a split of which every batch has been evaluated.

        Raises:
            PolicyRefusal: another call is due.
        """
        due = self._next
        step = due.step if due else self._last_step
        self._accept(Due(step, None, Batch(split, epoch, 0)))

    def checkpoint(self, step: int) -> None:
        """Accept a checkpoint between the step that was done last and the next one.

        Raises:
            PolicyRefusal: another step was done last, or one has only begun.
        """
        # Within a step, the call that is due is of the step that was begun last, so no checkpoint fits.
        due = self._next
        if step < self._last_step or (due is not None and step >= due.step):
            raise self._refusal(f"a checkpoint of step {step}")

    def finish(self) -> None:
        """Accept the end of training.

        Raises:
            PolicyRefusal: there is more to do.
        """
        if self._next is not None:
            raise self._refusal("the end of training")

    def _accept(self, asked: Due) -> None:
        if asked not in self._acceptable():
            raise self._refusal(str(asked))
        self._last_step = asked.step
        while (due := self._peek(0)) is not None:
            self._ahead.pop(0)
            if (due.step, due.phase) == (asked.step, asked.phase):
                break

    @property
    def _next(self) -> Due | None:
        """The call that comes next if no pass is marked that need not be; None at the end of training."""
        dues = (due for due in self._acceptable() if self._active or due.phase is not Phase.MARK_BEST)
        return next(dues, None)

    def _acceptable(self) -> list[Due]:
        """The calls of which one has to be next; none at the end of training."""
        due = self._peek(0)
        if due is None or due.phase is not Phase.MARK_BEST:
            return self._from(0)
        ends = self._best.ends_after(due.batch.epoch)
        if self._active:
            if self._best.unmarked:
                return [due]
            return [self._early_end] if ends else self._from(1)
        return [due, *self._from(1), *([self._early_end] if ends else [])]

    def _from(self, at: int) -> list[Due]:
        """The call at a place ahead. Where no pass was marked, none is restored."""
        due = self._peek(at)
        if due is not None and due.phase is Phase.RESTORE_BEST:
            if self._best.epoch is not None:
                return [self._of_best(due)]
            due = self._peek(at + 1)
        return [] if due is None else [due]

    @property
    def _early_end(self) -> Due:
        """The call with which the passes end."""
        return self._of_best(next(due for due in self._schedule.calls(0) if due.phase is Phase.RESTORE_BEST))

    def _of_best(self, due: Due) -> Due:
        """A call to go back, naming the pass that was marked last."""
        return replace(due, batch=replace(due.batch, epoch=self._best.epoch or 0))

    def _peek(self, at: int) -> Due | None:
        while len(self._ahead) <= at:
            due = next(self._calls, None)
            if due is None:
                return None
            self._ahead.append(due)
        return self._ahead[at]

    def _refusal(self, asked: str) -> PolicyRefusal:
        due = " or ".join(map(str, self._acceptable())) or "the end of training"
        _log.warning("refused a call that is not in the schedule", requested=asked, due=due)
        return PolicyRefusal(
            f"the coordinator requested {asked}, which is not what the job's schedule has next",
            detail=f"due is {due}",
            remedy="check that the coordinator runs the same version of vfl and the same job file; if it does, ask its "
            "operator why it deviates from the job",
        )
