"""A party derives the schedule of a run itself and takes part in nothing else.

The coordinator is not trusted with the choice of what is computed: a coordinator that has single batches scored, or
steps repeated, reads labels from the metrics and has values released that no policy agreed to.
"""

from __future__ import annotations

from vfl.errors import PolicyRefusal
from vfl.ids import Batch, Phase, Role, Split, StepKey
from vfl.job.schedule import Due, Schedule
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")


class ScheduleGuard:
    """Compares every call of an attempt with the one that is due.

    Args:
        schedule: as this party derives it from the job and the numbers of aligned rows.
        done: the step after which the attempt continues; 0 at the beginning.
        role: of this party; only the active one is asked for scores.
    """

    def __init__(self, schedule: Schedule, done: int, role: Role) -> None:
        self._calls = (due for due in schedule.calls(done) if role is Role.ACTIVE or due.phase is not None)
        self._due: Due | None = next(self._calls, None)
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
        step = self._due.step if self._due else self._last_step
        self._accept(Due(step, None, Batch(split, epoch, 0)))

    def checkpoint(self, step: int) -> None:
        """Accept a checkpoint between the step that was done last and the next one.

        Raises:
            PolicyRefusal: another step was done last, or one has only begun.
        """
        # Within a step, the call that is due is of the step that was begun last, so no checkpoint fits.
        if step < self._last_step or (self._due is not None and step >= self._due.step):
            raise self._refusal(f"a checkpoint of step {step}")

    def finish(self) -> None:
        """Accept the end of training.

        Raises:
            PolicyRefusal: there is more to do.
        """
        if self._due is not None:
            raise self._refusal("the end of training")

    def _accept(self, asked: Due) -> None:
        if asked != self._due:
            raise self._refusal(str(asked))
        self._last_step = asked.step
        self._due = next(self._calls, None)

    def _refusal(self, asked: str) -> PolicyRefusal:
        due = str(self._due) if self._due else "the end of training"
        _log.warning("refused a call that is not in the schedule", requested=asked, due=due)
        return PolicyRefusal(
            f"the coordinator requested {asked}, which is not what the job's schedule has next",
            detail=f"due is {due}",
            remedy="check that the coordinator runs the same version of vfl and the same job file; if it does, ask its "
            "operator why it deviates from the job",
        )
