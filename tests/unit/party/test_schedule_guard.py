"""A party does what the job's schedule has next, and refuses everything else that its coordinator may ask for."""

from dataclasses import replace

import pytest

from vfl.errors import PolicyRefusal
from vfl.ids import Batch, Phase, Role, Split, StepKey
from vfl.job.config import JobConfig
from vfl.job.schedule import Due, Schedule
from vfl.party.service.schedule_guard import ScheduleGuard

ROWS = {Split.TRAIN: 25, Split.VALIDATION: 12, Split.TEST: 11}


def _schedule(method: str) -> Schedule:
    training = {"method": method, "passes": 2, "local_epochs": 1, "batch_size": 10, "evaluation_batch_size": 10}
    job = {"name": "job", "seed": 1, "task": {"kind": "binary"}, "training": training}
    return Schedule(JobConfig.model_validate(job), ROWS)


@pytest.fixture(params=["joint", "stagewise"])
def schedule(request) -> Schedule:
    return _schedule(request.param)


@pytest.fixture(params=[Role.ACTIVE, Role.PASSIVE])
def role(request) -> Role:
    return request.param


def _calls(schedule: Schedule, role: Role, done: int = 0) -> list[Due]:
    return [due for due in schedule.calls(done) if role is Role.ACTIVE or due.phase is not None]


def _ask(guard: ScheduleGuard, due: Due) -> None:
    if due.phase is None:
        guard.score(due.batch.split, due.batch.epoch)
    else:
        guard.phase(StepKey("run", due.step, 0), due.phase, due.batch)


def _off(due: Due) -> list[Due]:
    """Calls that differ from the due one in one respect; a score carries no step and no number of a batch."""
    batch = due.batch
    batches = [replace(batch, epoch=batch.epoch + change) for change in (-1, 1, 2**40)]
    batches += [replace(batch, split=split) for split in Split if split is not batch.split]
    if due.phase is None:
        return [replace(due, batch=other) for other in batches]
    batches += [replace(batch, index=batch.index + change) for change in (-1, 1, 2**40)]
    return [
        *(replace(due, batch=other) for other in batches),
        *(replace(due, step=due.step + change) for change in (-1, 1, 100)),
        *(replace(due, phase=phase) for phase in Phase if phase is not due.phase),
        replace(due, phase=None),
    ]


def test_the_calls_of_the_schedule_are_accepted_to_the_end(schedule, role):
    guard = ScheduleGuard(schedule, 0, role)
    for due in _calls(schedule, role):
        _ask(guard, due)
    guard.finish()


def test_anything_else_is_refused_at_every_point_and_changes_nothing(schedule, role):
    guard, calls = ScheduleGuard(schedule, 0, role), _calls(schedule, role)
    for at, due in enumerate(calls):
        others = [*_off(due), *(other for other in calls[max(0, at - 8) : at + 9] if other != due)]
        for other in others:
            with pytest.raises(PolicyRefusal, match="is not what the job's schedule has next") as raised:
                _ask(guard, other)
            assert f"due is {due}" in raised.value.detail
        with pytest.raises(PolicyRefusal, match="requested the end of training"):
            guard.finish()
        _ask(guard, due)
    for other in calls[-8:]:  # the end was reached: nothing is done again
        with pytest.raises(PolicyRefusal):
            _ask(guard, other)


def test_a_passive_party_is_never_asked_for_a_score(schedule):
    guard = ScheduleGuard(schedule, 0, Role.PASSIVE)
    for due in schedule.calls(0):
        if due.phase is None:
            with pytest.raises(PolicyRefusal, match="the score of the"):
                _ask(guard, due)
        else:
            _ask(guard, due)
    guard.finish()


def test_metrics_of_single_batches_are_refused():
    """Loss or metrics of one batch again and again, each time after another step, would tell its labels."""
    schedule = _schedule("joint")
    guard = ScheduleGuard(schedule, 0, Role.ACTIVE)
    calls = _calls(schedule, Role.ACTIVE)
    first_score = next(at for at, due in enumerate(calls) if due.phase is Phase.SCORE)
    for due in calls[: first_score + 1]:
        _ask(guard, due)
    assert calls[first_score + 1].phase is Phase.BOTTOM_FORWARD  # of the second batch of this evaluation
    with pytest.raises(PolicyRefusal):
        guard.score(Split.VALIDATION, calls[first_score].batch.epoch)


def test_checkpoints_are_taken_between_steps_only(schedule, role):
    guard, calls, last = ScheduleGuard(schedule, 0, role), _calls(schedule, role), 0
    guard.checkpoint(0)
    for at, due in enumerate(calls):
        _ask(guard, due)
        following = calls[at + 1] if at + 1 < len(calls) else None
        if following and following.step == due.step:
            refused = [last, due.step, due.step + 1]
        else:
            guard.checkpoint(due.step)
            last = due.step
            refused = [due.step - 1, -1, *([following.step, following.step + 1] if following else [])]
        for step in refused:
            with pytest.raises(PolicyRefusal, match=f"requested a checkpoint of step {step}"):
                guard.checkpoint(step)


@pytest.mark.parametrize("done", range(0, 30, 3))
def test_a_restored_party_continues_after_the_step_of_its_checkpoint(schedule, role, done):
    left = _calls(schedule, role, done)
    guard = ScheduleGuard(schedule, done, role)
    if not left or left[0].step > done:  # an evaluation that was begun is done again
        guard.checkpoint(done)
    for due in _calls(schedule, role):
        if left and due.step <= done and due != left[0]:
            with pytest.raises(PolicyRefusal):
                _ask(guard, due)
    for due in left:
        _ask(guard, due)
    guard.finish()


def test_both_roles_and_the_coordinator_have_the_same_calls_left(schedule):
    for done in range(next(reversed(list(schedule.calls(0)))).step + 1):
        active, passive = (_calls(schedule, role, done) for role in (Role.ACTIVE, Role.PASSIVE))
        assert [due for due in active if due.phase is not None] == passive
        whole = list(schedule.calls(0))
        assert active == whole[len(whole) - len(active) :]


def test_a_batch_beyond_the_schedule_is_refused_after_its_end(role):
    schedule = _schedule("stagewise")
    guard = ScheduleGuard(schedule, 10**9, role)
    guard.finish()
    with pytest.raises(PolicyRefusal, match="due is the end of training"):
        guard.phase(StepKey("run", 10**9 + 1, 0), Phase.BOTTOM_FORWARD, Batch(Split.TEST, 0, 0))
