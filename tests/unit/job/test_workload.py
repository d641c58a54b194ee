"""What is checked before a job starts are the batches that its schedule has."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.he.layout import sizes_that_differ
from vfl.ids import Split
from vfl.job.config import JobConfig
from vfl.job.schedule import Evaluation, Schedule, TrainStep, workload


def _job(epochs: int, batch_size: int, scoring: int, every: int) -> JobConfig:
    training = {
        "epochs": epochs,
        "batch_size": batch_size,
        "evaluation_batch_size": scoring,
        "evaluate_every": every,
    }
    return JobConfig.model_validate(
        {"name": "job", "seed": 1, "task": {"kind": "binary"}, "model": {"widths": {}}, "training": training}
    )


@settings(deadline=None, max_examples=50)
@given(
    epochs=st.integers(1, 5),
    batch=st.integers(1, 40),
    scoring=st.integers(1, 40),
    every=st.integers(1, 6),
    rows=st.tuples(st.integers(20, 120), st.integers(0, 90), st.integers(0, 90)),
)
def test_the_workload_counts_the_batches_of_the_schedule(epochs, batch, scoring, every, rows):
    job = _job(epochs, batch, scoring, every)
    counts = dict(zip((Split.TRAIN, Split.VALIDATION, Split.TEST), rows, strict=True))
    trained, scored = Counter(), Counter()
    schedule = Schedule(job, counts)
    for item in schedule:
        if isinstance(item, TrainStep):
            trained[item.rows] += 1
        elif isinstance(item, Evaluation):
            sizes = dict(schedule._batches(item.split, item.epoch))
            scored.update(sizes[scored_batch] for scored_batch in item.batches)
    work = workload(job, counts)
    assert work.training == dict(trained)
    assert work.scoring == dict(scored)


@pytest.mark.parametrize(("rows", "sizes"), [(100, {100: 3}), (149, {100: 3}), (150, {100: 3, 50: 3}), (60, {60: 3})])
def test_a_last_batch_of_half_the_size_is_trained_on(rows, sizes):
    assert workload(_job(3, 100, 10, 1), {Split.TRAIN: rows, Split.VALIDATION: 0, Split.TEST: 0}).training == sizes


def test_one_size_of_each_class_is_smaller_than_a_batch():
    assert list(sizes_that_differ(50, 100, 8192)) == [100, 96, 64]
