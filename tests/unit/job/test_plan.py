"""The epochs of a job and their columns, and the steps and phases that follow from the numbers of rows."""

import pytest

from vfl.ids import Batch, Phase, Split
from vfl.job.config import JobConfig
from vfl.job.plan import EpochKind, Plan
from vfl.job.schedule import (
    EVALUATION_PHASES,
    GRADIENT_PHASES,
    JOINT_PHASES,
    LOCAL_PHASES,
    RELEASE_PHASES,
    EpochEnd,
    Evaluation,
    Schedule,
    Step,
)

JOINT, LOCAL, GRADIENT, RELEASE = EpochKind.JOINT, EpochKind.LOCAL, EpochKind.GRADIENT, EpochKind.RELEASE
ROWS = {Split.TRAIN: 25, Split.VALIDATION: 12, Split.TEST: 11}


def _job(method: str, task: dict | None = None, **training) -> JobConfig:
    sizes = {"batch_size": 10, "evaluation_batch_size": 10}
    content = {"name": "job", "seed": 1, "task": task or {"kind": "binary"}}
    return JobConfig.model_validate({**content, "training": {"method": method, **sizes, **training}})


def _epochs(job: JobConfig) -> list[tuple[EpochKind, int, int]]:
    return [(epoch.kind, epoch.columns.start, epoch.columns.stop) for epoch in Plan(job).epochs]


def test_stagewise_training_takes_one_column_after_the_other():
    stages = [(LOCAL, 0, 0), (GRADIENT, 0, 1), (RELEASE, 0, 1), (LOCAL, 0, 0), (GRADIENT, 1, 2), (RELEASE, 1, 2)]
    assert _epochs(_job("stagewise", passes=2, local_epochs=3)) == [*stages, *3 * [(LOCAL, 0, 0)]]


def test_a_stage_has_a_column_for_each_logit():
    job = _job("stagewise", {"kind": "multiclass", "classes": 4}, passes=2, local_epochs=0)
    assert [epoch for epoch in _epochs(job) if epoch[0] is GRADIENT] == [(GRADIENT, 0, 4), (GRADIENT, 4, 8)]
    assert _epochs(job)[0] == (LOCAL, 0, 0)  # what the active party has trains before any gradient


@pytest.mark.parametrize(("local", "last"), [(0, []), (2, [RELEASE, LOCAL, LOCAL])])
def test_joint_training_releases_outputs_only_for_local_epochs(local, last):
    assert [kind for kind, *_ in _epochs(_job("joint", passes=3, local_epochs=local))] == [*3 * [JOINT], *last]


def test_what_is_done_with_a_batch_follows_from_its_epoch_and_split():
    plan = Plan(_job("stagewise", passes=2, local_epochs=3))
    for number, epoch in enumerate(plan.epochs):
        train, validation, test = (Batch(split, number, 0) for split in Split)
        assert (plan.kind(train), plan.columns(train)) == (epoch.kind, epoch.columns)
        assert plan.kind(validation) is (RELEASE if epoch.kind is RELEASE else None)
        assert plan.kind(test) is None
        assert plan.columns(test) == slice(0, 2)
    for beyond in (-1, len(plan.epochs), 2**63):
        assert plan.kind(Batch(Split.TRAIN, beyond, 0)) is None


def test_a_rate_falls_over_consecutive_local_epochs():
    plan = Plan(_job("stagewise", passes=2, local_epochs=6))
    runs = {number: plan.local_run(number) for number, epoch in enumerate(plan.epochs) if epoch.kind is LOCAL}
    assert set(runs.values()) == {(0, 2), (4, 2), (8, 6)}
    assert (plan.counted_epochs, plan.counted(4), plan.counted(len(plan.epochs))) == (12, 3, 12)


def _listed(schedule: Schedule) -> list[tuple]:
    """Step, kind of work, split, epoch and rows or batches of everything in a schedule."""
    found = []
    for work in schedule:
        match work:
            case Step():
                found.append((work.step, work.phases, work.batch.split, work.batch.epoch, work.rows))
            case Evaluation():
                found.append((work.first_step, "score", work.split, work.epoch, len(work.batches)))
            case EpochEnd():
                found.append((work.last_step, "end", work.epoch))
    return found


def test_the_steps_of_stagewise_training():
    """Only the last batch of a gradient steps the weights; scores of kept outputs have a step of their own."""
    schedule = Schedule(_job("stagewise", passes=1, local_epochs=1), ROWS)
    train, validation, test = Split
    assert _listed(schedule) == [
        (1, LOCAL_PHASES, train, 0, 25),
        (2, "score", validation, 0, 0),
        (2, "end", 0),
        (3, GRADIENT_PHASES, train, 1, 10),
        (4, GRADIENT_PHASES, train, 1, 10),
        (5, (*GRADIENT_PHASES, Phase.WEIGHT_STEP), train, 1, 5),
        (5, "end", 1),
        (6, RELEASE_PHASES, train, 2, 10),
        (7, RELEASE_PHASES, train, 2, 10),
        (8, RELEASE_PHASES, train, 2, 5),
        (9, RELEASE_PHASES, validation, 2, 10),
        (10, RELEASE_PHASES, validation, 2, 2),
        (11, LOCAL_PHASES, train, 3, 25),
        (12, "score", validation, 3, 0),
        (12, "end", 2),
        (13, "score", test, 4, 2),
    ]
    assert [work.trains for work in schedule if isinstance(work, Step)] == [True] * 4 + [False] * 5 + [True]
    assert schedule.epoch_steps == 3


def test_the_steps_of_joint_training():
    train, validation, test = Split
    assert _listed(Schedule(_job("joint", passes=3, evaluate_every=2), ROWS)) == [
        *((step, JOINT_PHASES, train, 0, rows) for step, rows in ((1, 10), (2, 10), (3, 5))),
        (3, "end", 0),
        *((step, JOINT_PHASES, train, 1, rows) for step, rows in ((4, 10), (5, 10), (6, 5))),
        (7, "score", validation, 1, 2),
        (8, "end", 1),
        *((step, JOINT_PHASES, train, 2, rows) for step, rows in ((9, 10), (10, 10), (11, 5))),
        (12, "score", validation, 2, 2),
        (13, "end", 2),
        (14, "score", test, 3, 2),
    ]


@pytest.mark.parametrize("method", ["joint", "stagewise"])
def test_every_released_row_of_a_column_is_released_once_in_stagewise_training(method):
    """In joint training once for every pass; noise is bound to what has shaped the weights."""
    schedule = Schedule(_job(method, passes=2, local_epochs=1), ROWS)
    released = []
    for work in schedule:
        if isinstance(work, Step) and Phase.INTERACTION_FORWARD in work.phases:
            columns = schedule.plan.columns(work.batch)
            released.append((work.batch, columns.start, columns.stop))
    assert len(released) == len(set(released))
    assert all((columns == [0, 1]) == (method == "stagewise") for _, *columns in released[:3])


def test_the_calls_are_the_phases_in_their_order_and_a_score_after_each_evaluation():
    schedule = Schedule(_job("stagewise", passes=1, local_epochs=1), ROWS)
    calls = list(schedule.calls(12))
    assert [(due.step, due.phase) for due in calls] == [
        *((step, phase) for step in (13, 14) for phase in EVALUATION_PHASES),
        (14, None),
    ]
    assert "score of the test rows" in str(calls[-1])
    assert "batch 2, epoch 5 (test)" in str(calls[-2])
    assert [due.step for due in schedule.calls(0)] == sorted(due.step for due in schedule.calls(0))
