"""What is checked before a job starts are the batches that its schedule has."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.he.layout import sizes_that_differ
from vfl.ids import Batch, Phase, Split
from vfl.job.config import JobConfig
from vfl.job.schedule import EVALUATION_PHASES, Schedule, Step, workloads


def _job(passes: int, batch_size: int, scoring: int, every: int, local: int = 0, method: str = "joint") -> JobConfig:
    training = {
        "method": method,
        "passes": passes,
        "local_epochs": local,
        "batch_size": batch_size,
        "evaluation_batch_size": scoring,
        "evaluate_every": every,
    }
    return JobConfig.model_validate({"name": "job", "seed": 1, "task": {"kind": "binary"}, "training": training})


def _exchanged(schedule: Schedule) -> tuple[Counter, Counter]:
    """How often columns and rows of each number go forward, and how often backward."""
    forward, backward = Counter(), Counter()

    def count(phases: tuple[Phase, ...], batch: Batch) -> None:
        columns = schedule.plan.columns(batch)
        size = columns.stop - columns.start, dict(schedule._batches(batch.split, batch.epoch))[batch]
        forward[size] += Phase.INTERACTION_FORWARD in phases
        backward[size] += Phase.INTERACTION_BACKWARD in phases

    for item in schedule:
        if isinstance(item, Step) and Phase.LOCAL_EPOCH not in item.phases:
            count(item.phases, item.batch)
        for batch in getattr(item, "batches", ()):
            count(EVALUATION_PHASES, batch)
    return +forward, +backward


@settings(deadline=None, max_examples=80)
@given(
    method=st.sampled_from(["joint", "stagewise"]),
    passes=st.integers(1, 5),
    batch=st.integers(1, 40),
    scoring=st.integers(1, 40),
    every=st.integers(1, 6),
    local=st.integers(0, 3),
    rows=st.tuples(st.integers(20, 120), st.integers(0, 90), st.integers(0, 90)),
)
def test_the_workloads_count_the_batches_of_the_schedule(method, passes, batch, scoring, every, local, rows):
    job = _job(passes, batch, scoring, every, local, method)
    counts = dict(zip((Split.TRAIN, Split.VALIDATION, Split.TEST), rows, strict=True))
    forward, backward = Counter(), Counter()
    for columns, work in workloads(job, counts):
        for size, times in work.training.items():
            forward[columns, size] += times
            backward[columns, size] += times
        for size, times in work.scoring.items():
            forward[columns, size] += times
    assert (forward, backward) == _exchanged(Schedule(job, counts))


@pytest.mark.parametrize(("rows", "sizes"), [(100, {100: 3}), (149, {100: 3}), (150, {100: 3, 50: 3}), (60, {60: 3})])
def test_a_last_batch_of_half_the_size_is_trained_on(rows, sizes):
    counts = {Split.TRAIN: rows, Split.VALIDATION: 0, Split.TEST: 0}
    ((_, work),) = workloads(_job(3, 100, 10, 1), counts)
    assert work.training == sizes


def test_stagewise_training_leaves_out_no_row():
    counts = {Split.TRAIN: 101, Split.VALIDATION: 0, Split.TEST: 0}
    (columns, stage), (every_column, test) = workloads(_job(3, 10, 100, 1, method="stagewise"), counts)
    assert (columns, every_column) == (1, 3)
    assert stage.training == {100: 3, 1: 3}
    assert not test.training


def test_one_size_of_each_class_is_smaller_than_a_batch():
    assert list(sizes_that_differ(50, 100, 8192)) == [100, 96, 64]
