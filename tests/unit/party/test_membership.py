"""A split that the active party chooses: what it is, what it tells, and what a receiver accepts."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfl.data.split import split_rows, split_sizes
from vfl.data.table import Table
from vfl.errors import ProtocolError
from vfl.ids import Split
from vfl.job.config import JobConfig
from vfl.messages import SplitMembership
from vfl.party.roles.rows.membership import choose, learn, pack, sizes_of, strata, unpack

SECRET = bytes(32)


def job_by(by, kind="binary", validation=0.1, test=0.3, seed=1):
    split = {"by": by, "validation": validation, "test": test}
    return JobConfig.model_validate({"name": "job", "seed": seed, "task": {"kind": kind}, "split": split})


def table_of(labels, times=None):
    rows = len(labels)
    ids = pl.Series([f"{row:04}" for row in range(rows)])
    labels, none = np.asarray(labels), np.empty((rows, 0), dtype=np.object_)
    times = None if times is None else np.asarray(times, dtype=np.float64)
    return Table(ids, ids, np.zeros((rows, 1)), ("x",), none, (), labels, times=times)


def parts_of(job, table, secret=SECRET):
    return unpack(choose(job, table, secret), sizes_of(job, len(table)), "bank")


RNG = np.random.default_rng(5)
LABELS = (RNG.random(200) < 0.2).astype(np.float64)
TIMES = RNG.integers(0, 40, 200)


def test_every_class_has_its_share_of_every_part():
    parts = parts_of(job_by("label"), table_of(LABELS))
    positive = LABELS.sum()
    for part, size in sizes_of(job_by("label"), 200).items():
        assert len(parts[part]) == size
        assert abs(LABELS[parts[part]].sum() - positive * size / 200) < 1


@pytest.mark.parametrize("labels", [RNG.normal(size=200), np.maximum(0, RNG.poisson(1.0, 200) - 1.0), RNG.random(40)])
def test_a_number_that_is_predicted_is_split_by_its_range(labels):
    job, table = job_by("label", "regression"), table_of(labels)
    sizes = sizes_of(job, len(labels))
    groups, parts = strata(job, table, sizes), parts_of(job, table)
    for group in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == group)
        assert labels[members].max() < min(labels[groups > group], default=np.inf)
        for part, size in sizes.items():
            assert abs(len(np.intersect1d(members, parts[part])) - len(members) * size / len(labels)) < 1
    assert groups.max() >= 1


def test_the_earliest_rows_train_and_the_latest_test():
    parts = parts_of(job_by("time"), table_of(LABELS, TIMES))
    train, validation, test = (TIMES[parts[part]] for part in Split)
    assert train.max() <= validation.min() <= validation.max() <= test.min()


@pytest.mark.parametrize("by", ["label", "time"])
def test_an_equal_choice_is_equal_whatever_the_order_of_the_table(by):
    job, table = job_by(by), table_of(LABELS, TIMES)
    shuffled = table.select(np.random.default_rng(0).permutation(200))
    assert np.array_equal(choose(job, table, SECRET), choose(job, shuffled, SECRET))


@pytest.mark.parametrize("by", ["label", "time"])
@pytest.mark.parametrize("changed", ["secret", "seed", "row", "value"])
def test_if_anything_is_different_everything_is_drawn_anew(by, changed):
    """Two choices from one draw under other labels would show which rows the difference is about."""
    times = np.zeros(200) if by == "time" else TIMES  # all tied, but for the rows at the ends
    times = np.concatenate([[-1.0], times[1:-1], [1.0]]) if by == "time" else times
    table, other, job, secret = table_of(LABELS, times), table_of(LABELS, times), job_by(by), SECRET
    if changed == "secret":
        secret = bytes([1] * 32)
    elif changed == "seed":
        other_job = job_by(by, seed=2)
    elif changed == "row":
        other = replace(other, ids=pl.Series(["0000a", *other.ids[1:]]))
    elif by == "time":
        other = table_of(LABELS, np.concatenate([[-1.0, -0.5], times[2:]]))
    else:
        other = table_of(np.concatenate([[1 - LABELS[0]], LABELS[1:]]), times)
    first, second = parts_of(job, table), parts_of(other_job if changed == "seed" else job, other, secret)
    moved = 200 - sum(len(np.intersect1d(first[part], second[part])) for part in Split)
    assert moved > 50


def test_given_the_classes_every_split_with_its_share_of_each_is_equally_likely():
    """So two assignments of classes to rows that fit a split are equally likely to have led to it."""
    job, draws = job_by("label", validation=0.0, test=1 / 3), 1800
    labels = [0, 0, 0, 1, 1, 1]
    found = Counter(
        tuple(parts_of(job, table_of(labels), at.to_bytes(32, "big"))[Split.TEST].tolist()) for at in range(draws)
    )
    consistent = {(zero, one) for zero in range(3) for one in range(3, 6)}
    assert set(found) == consistent < set(combinations(range(6), 2))
    expected = draws / len(consistent)
    assert sum((count - expected) ** 2 / expected for count in found.values()) < 26.1  # chi-square, 8 degrees, 0.001


def test_which_of_the_rows_at_the_border_train_is_equally_likely():
    job, draws = job_by("time", validation=0.0, test=0.5), 900
    table = table_of([0, 1, 0, 1], [0, 1, 1, 2])
    found = Counter(tuple(parts_of(job, table, at.to_bytes(32, "big"))[Split.TEST].tolist()) for at in range(draws))
    assert set(found) == {(1, 3), (2, 3)}
    assert abs(found[1, 3] - draws / 2) < 4 * np.sqrt(draws / 4)


# --- as it crosses ---


@given(n=st.integers(3, 60), seed=st.integers(0, 100))
def test_a_split_that_was_packed_is_read_back(n, seed):
    parts = split_rows(n, 0.2, 0.4, seed)
    packed = pack(parts)
    assert len(packed) == -(-n // 4)
    back = unpack(packed, split_sizes(n, 0.2, 0.4), "bank")
    assert all(np.array_equal(back[part], parts[part]) for part in Split)


ROWS = 202
PARTS = split_rows(ROWS, 0.1, 0.3, 0)
SIZES = split_sizes(ROWS, 0.1, 0.3)


def _with_code(packed, row, code):
    changed = packed.copy()
    changed[row // 4] = (changed[row // 4] & ~np.uint8(3 << 2 * (row % 4))) | np.uint8(code << 2 * (row % 4))
    return changed


HOSTILE = {
    "hardly any training rows": lambda packed: pack({**PARTS, Split.TRAIN: PARTS[Split.TRAIN][:1], Split.TEST:
                                                     np.concatenate([PARTS[Split.TEST], PARTS[Split.TRAIN][1:]])}),
    "one row more trains": lambda packed: _with_code(packed, PARTS[Split.TEST][0], 0),
    "a row in no part": lambda packed: _with_code(packed, PARTS[Split.TRAIN][0], 3),
    "bits beyond the end": lambda packed: _with_code(packed, ROWS, 1),
    "too short": lambda packed: packed[:-1],
    "too long": lambda packed: np.append(packed, np.uint8(0)),
    "empty": lambda packed: packed[:0],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_receiver_accepts_only_the_sizes_that_follow_from_the_job(name):
    exchange = learn("bank", SIZES)
    next(exchange)
    with pytest.raises(ProtocolError, match="bank sent a split"):
        exchange.send(SplitMembership(HOSTILE[name](pack(PARTS))))
