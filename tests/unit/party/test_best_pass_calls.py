"""Which pass is marked, when passes end and what is restored: what each party accepts of its coordinator."""

from dataclasses import replace

import pytest

from vfl.errors import PolicyRefusal
from vfl.ids import Batch, Phase, Role, Split, StepKey
from vfl.job.best_epoch import BestSoFar
from vfl.job.config import JobConfig
from vfl.job.schedule import Due, Schedule
from vfl.party.service.schedule_guard import ScheduleGuard

ROWS = {Split.TRAIN: 25, Split.VALIDATION: 12, Split.TEST: 11}
PASSES = 4


def schedule_of(**training) -> Schedule:
    sizes = {"method": "joint", "passes": PASSES, "batch_size": 10, "evaluation_batch_size": 10}
    job = {"name": "job", "seed": 1, "task": {"kind": "binary"}, "training": {**sizes, **training}}
    return Schedule(JobConfig.model_validate(job | {"split": {"validation": 0.2}}), ROWS)


class Party:
    """A guard, and the notes that its role makes.

    Args:
        scores: metric of each pass, of which the active party knows.
    """

    def __init__(self, schedule: Schedule, role: Role, scores=(0.5, 0.7, 0.6, 0.4), patience=None, done=0):
        self.best = BestSoFar("auc", patience)
        self.schedule = schedule
        self._scores = scores
        self._active = role is Role.ACTIVE
        self._guard = ScheduleGuard(schedule, done, role, self.best)

    def ask(self, due: Due) -> None:
        epoch = due.batch.epoch
        if due.phase is None:
            if not self._active:
                return
            self._guard.score(due.batch.split, epoch)
            if due.batch.split is Split.VALIDATION and epoch < PASSES:
                self.best.consider(epoch, {"auc": self._scores[epoch]})
            return
        self._guard.phase(StepKey("run", due.step, 0), due.phase, due.batch)
        if due.phase is Phase.MARK_BEST:
            self.best.mark(epoch)

    def go(self, *marked: int, until: int = PASSES) -> None:
        """Do the passes before ``until``, of which some are marked."""
        for due in self.schedule.calls(0):
            if due.batch.epoch >= until or due.batch.split is Split.TEST or due.phase is Phase.RESTORE_BEST:
                return
            if due.phase is not Phase.MARK_BEST or due.batch.epoch in marked:
                self.ask(due)

    def refuses(self, *dues: Due) -> None:
        for due in dues:
            with pytest.raises(PolicyRefusal, match="which is not what the job's schedule has next"):
                self.ask(due)

    def finish(self) -> None:
        self._guard.finish()

    def checkpoint(self, step: int) -> None:
        self._guard.checkpoint(step)


def call(schedule: Schedule, phase: Phase, epoch: int) -> Due:
    """The call of a phase about a pass."""
    found = next(
        d for d in schedule.calls(0) if d.phase is phase and (phase is Phase.RESTORE_BEST or d.batch.epoch == epoch)
    )
    return replace(found, batch=replace(found.batch, epoch=epoch))


def first_of(schedule: Schedule, epoch: int, split: Split = Split.TRAIN) -> Due:
    return next(due for due in schedule.calls(0) if due.batch.epoch == epoch and due.batch.split is split)


def the_rest(schedule: Schedule, after: Due) -> list[Due]:
    return [due for due in schedule.calls(0) if due.step > after.step]


@pytest.fixture(params=[Role.ACTIVE, Role.PASSIVE])
def role(request) -> Role:
    return request.param


def test_the_best_pass_is_restored_before_the_test_rows(role):
    schedule = schedule_of()
    party = Party(schedule, role)
    party.go(0, 1)
    party.refuses(first_of(schedule, PASSES, Split.TEST))
    with pytest.raises(PolicyRefusal, match="requested the end of training"):
        party.finish()
    restore = call(schedule, Phase.RESTORE_BEST, 1)
    party.ask(restore)
    party.refuses(restore, first_of(schedule, 1), first_of(schedule, PASSES - 1))
    for due in the_rest(schedule, restore):
        party.ask(due)
    party.finish()


def test_only_the_pass_that_was_marked_last_is_restored(role):
    schedule = schedule_of()
    party = Party(schedule, role)
    party.go(0, 1)
    party.refuses(*(call(schedule, Phase.RESTORE_BEST, epoch) for epoch in (0, 2, 3, 9, -1)))


def test_a_pass_is_marked_once_it_was_evaluated_and_before_the_next_one(role):
    schedule = schedule_of()
    party = Party(schedule, role, scores=(0.5, 0.6, 0.7, 0.8))
    marks = [call(schedule, Phase.MARK_BEST, epoch) for epoch in range(PASSES)]
    for due in schedule.calls(0):
        if due.step == marks[0].step:
            break
        party.refuses(*marks)
        party.ask(due)
    party = Party(schedule, role, scores=(0.5, 0.6, 0.7, 0.8))
    party.go(0, until=1)
    party.refuses(*marks)
    party.ask(first_of(schedule, 1))
    party.refuses(*marks)


def test_the_active_party_has_exactly_the_better_passes_marked():
    schedule = schedule_of()
    party = Party(schedule, Role.ACTIVE)
    party.go(until=1)
    mark = call(schedule, Phase.MARK_BEST, 0)
    party.refuses(first_of(schedule, 1))
    with pytest.raises(PolicyRefusal, match="requested a checkpoint"):
        party.checkpoint(mark.step)
    party.ask(mark)
    party.checkpoint(mark.step)
    party = Party(schedule, Role.ACTIVE)
    party.go(0, 1, until=3)
    party.refuses(call(schedule, Phase.MARK_BEST, 2))
    party.ask(first_of(schedule, 3))


@pytest.mark.parametrize("patience", [None, 1, 2])
def test_passes_end_early_only_with_patience_and_once_it_is_over(role, patience):
    schedule = schedule_of(patience=patience)
    for until in range(1, PASSES):
        party = Party(schedule, role, scores=(0.5, 0.4, 0.3, 0.2), patience=patience)
        party.go(0, until=until)
        restore = call(schedule, Phase.RESTORE_BEST, 0)
        if patience is not None and until - 1 == patience:
            if role is Role.ACTIVE:
                party.refuses(first_of(schedule, until))
            party.checkpoint(restore.step - 1) if until == PASSES else party.checkpoint(
                first_of(schedule, until).step - 1
            )
            party.ask(restore)
            party.refuses(first_of(schedule, until))
            for due in the_rest(schedule, restore):
                party.ask(due)
            party.finish()
            break
        party.refuses(restore)


def test_a_passive_party_may_be_told_that_a_pass_was_better_in_place_of_the_end():
    schedule = schedule_of(patience=1)
    party = Party(schedule, Role.PASSIVE, patience=1)
    party.go(0, 1, 2, 3)
    party.ask(call(schedule, Phase.RESTORE_BEST, 3))


def test_where_no_metric_is_defined_nothing_is_restored(role):
    schedule = schedule_of()
    party = Party(schedule, role, scores=[float("nan")] * PASSES)
    party.go()
    restore = call(schedule, Phase.RESTORE_BEST, 0)
    party.refuses(restore)
    for due in the_rest(schedule, restore):
        party.ask(due)
    party.finish()


@pytest.mark.parametrize("training", [{"keep_best": False}, {"method": "stagewise", "local_epochs": 2}])
def test_without_keep_best_in_joint_training_no_pass_is_marked_or_restored(role, training):
    schedule = schedule_of(**training)
    dues = list(schedule.calls(0))
    assert not {Phase.MARK_BEST, Phase.RESTORE_BEST} & {due.phase for due in dues}
    party = Party(schedule, role)
    for due in dues:
        others = [
            Due(step, phase, Batch(Split.VALIDATION, due.batch.epoch, 0))
            for phase in (Phase.MARK_BEST, Phase.RESTORE_BEST)
            for step in (due.step - 1, due.step)
        ]
        party.refuses(*others)
        party.ask(due)
    party.finish()


def test_resumed_behind_the_mark_the_same_pass_is_restored(role):
    schedule = schedule_of()
    done = first_of(schedule, 3).step
    party = Party(schedule, role, done=done)
    party.best.mark(1)
    party.best.score = 0.7
    for due in schedule.calls(done):
        if due.phase is Phase.RESTORE_BEST:
            break
        if due.phase is not Phase.MARK_BEST:
            party.ask(due)
    party.refuses(call(schedule, Phase.RESTORE_BEST, 3))
    party.ask(call(schedule, Phase.RESTORE_BEST, 1))


@pytest.mark.parametrize("local_epochs", [0, 2])
def test_a_run_that_ended_early_has_no_more_steps_or_releases_than_planned(role, local_epochs):
    schedule = schedule_of(patience=1, local_epochs=local_epochs)
    planned = [due for due in schedule.calls(0) if due.phase not in (Phase.MARK_BEST, Phase.RESTORE_BEST)]
    restore = call(schedule, Phase.RESTORE_BEST, 0)
    left = the_rest(schedule, restore)
    assert left == planned[-len(left) :]
    assert {due.batch.split for due in left} >= {Split.TEST}
    assert (Phase.LOCAL_EPOCH in {due.phase for due in left}) == bool(local_epochs)
