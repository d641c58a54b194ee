import hashlib

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vfl.data.split import epoch_batches, ordered_parts, rows_of_strata, split_rows, split_sizes, stratified_parts
from vfl.errors import ConfigError, DataError
from vfl.ids import Split

seeds = st.integers(0, 2**64 - 1)


def fingerprint(arrays):
    joined = np.concatenate(arrays).astype("<i8")
    return hashlib.sha256(joined.tobytes()).hexdigest()[:16]


@given(n=st.integers(20, 300), seed=seeds)
def test_every_row_is_in_exactly_one_part(n, seed):
    parts = split_rows(n, 0.1, 0.2, seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(n))
    assert set(parts) == set(Split)
    for rows in parts.values():
        assert rows.dtype == np.int64
        assert np.all(np.diff(rows) > 0)


@pytest.mark.parametrize(("n", "validation", "test"), [(10, 2, 3), (11, 2, 3), (9, 1, 2), (30, 5, 8)])
def test_sizes_are_rounded_half_up(n, validation, test):
    parts = split_rows(n, 0.15, 0.25, seed=1)
    assert len(parts[Split.VALIDATION]) == validation
    assert len(parts[Split.TEST]) == test


def test_split_and_batches_never_change():
    """Parties may run different versions: a change here is a change of protocol."""
    parts = split_rows(1000, 0.1, 0.2, seed=7)
    assert list(parts[Split.TEST][:5]) == [8, 9, 10, 12, 15]
    assert fingerprint([parts[Split.TRAIN], parts[Split.VALIDATION], parts[Split.TEST]]) == "b11c15335f883093"
    batches = epoch_batches(parts[Split.TRAIN], 64, seed=7, epoch=3, shuffle=True)
    assert fingerprint(batches) == "7387882753e144c7"


def test_split_depends_on_the_seed():
    assert not np.array_equal(split_rows(100, 0, 0.3, 1)[Split.TEST], split_rows(100, 0, 0.3, 2)[Split.TEST])


def test_part_with_share_zero_is_empty_and_allowed():
    parts = split_rows(3, 0, 0, seed=0)
    assert [len(parts[part]) for part in (Split.TRAIN, Split.VALIDATION, Split.TEST)] == [3, 0, 0]


@pytest.mark.parametrize(
    ("n", "validation", "test", "named"),
    [(0, 0, 0, "train"), (2, 0.1, 0.5, "validation"), (4, 0.5, 0.1, "test"), (1, 0, 0.6, "train")],
)
def test_needed_part_without_rows_is_an_error(n, validation, test, named):
    with pytest.raises(DataError, match=named):
        split_rows(n, validation, test, seed=0)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.2), (0.5, 0.5), (float("nan"), 0.1), (0.1, 1.0)])
def test_shares_out_of_range_are_refused(validation, test):
    with pytest.raises(ConfigError, match="shares"):
        split_rows(100, validation, test, seed=0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed):
    with pytest.raises(ConfigError, match="seed"):
        split_rows(100, 0, 0.1, seed)


fractions = st.sampled_from([0.0, 0.05, 0.1, 0.25, 0.4])
counts_of_classes = st.lists(st.integers(1, 60), min_size=1, max_size=7)


def sizes_for(counts, validation, test):
    try:
        return split_sizes(sum(counts), validation, test)
    except DataError:
        assume(False)


@given(counts=counts_of_classes, validation=fractions, test=fractions)
def test_each_stratum_gets_its_share_of_each_part_within_a_row_and_all_sums_hold(counts, validation, test):
    sizes = list(sizes_for(counts, validation, test).values())
    found = rows_of_strata(np.array(counts), sizes)
    exact = np.outer(counts, sizes) / sum(counts)
    assert found.sum(axis=0).tolist() == sizes
    assert found.sum(axis=1).tolist() == counts
    assert (np.abs(found - exact) < 1).all()
    assert (found[exact >= 1] >= 1).all()


@pytest.mark.parametrize(
    ("counts", "sizes", "expected"),
    [
        ([95, 5], [60, 10, 30], [[57, 9, 29], [3, 1, 1]]),
        ([50, 50, 50], [75, 0, 75], [[25, 0, 25]] * 3),
        ([1, 1, 1], [1, 1, 1], None),
        ([7], [4, 1, 2], [[4, 1, 2]]),
    ],
)
def test_shares_below_a_row_are_rounded_up_where_that_can_be(counts, sizes, expected):
    found = rows_of_strata(np.array(counts), sizes).tolist()
    assert expected is None or found == expected
    assert [sum(column) for column in zip(*found, strict=True)] == sizes


@given(counts=counts_of_classes, validation=fractions, test=fractions, seed=st.integers(0, 2**32))
def test_stratified_parts_hold_every_row_once_and_as_many_of_each_stratum_as_stated(counts, validation, test, seed):
    sizes = sizes_for(counts, validation, test)
    rng = np.random.default_rng(seed)
    strata = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    parts = stratified_parts(sizes, strata, rng.integers(0, 2**64, len(strata), dtype=np.uint64))
    assert sorted(np.concatenate(list(parts.values()))) == list(range(sum(counts)))
    found = [np.bincount(strata[parts[part]], minlength=len(counts)) for part in Split]
    assert np.array_equal(np.transpose(found), rows_of_strata(np.array(counts), list(sizes.values())))
    assert all(np.all(np.diff(rows) > 0) for rows in parts.values())


def test_ordered_parts_are_the_first_the_next_and_the_last():
    parts = ordered_parts(split_sizes(10, 0.2, 0.3), np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]))
    assert [parts[part].tolist() for part in Split] == [[5, 6, 7, 8, 9], [3, 4], [0, 1, 2]]


@given(n=st.integers(1, 200), batch_size=st.integers(1, 70), seed=seeds, epoch=st.integers(0, 1000))
def test_training_batches_hold_different_rows_and_leave_out_less_than_half_a_batch(n, batch_size, seed, epoch):
    rows = np.arange(n, dtype=np.int64) * 3
    if 2 * n < batch_size:
        with pytest.raises(DataError, match="half a batch"):
            epoch_batches(rows, batch_size, seed, epoch, shuffle=True)
        return
    batches = epoch_batches(rows, batch_size, seed, epoch, shuffle=True)
    used = np.concatenate(batches)
    assert len(set(used)) == len(used)
    assert set(used) <= set(rows)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    assert 2 * len(batches[-1]) >= batch_size
    assert 2 * (n - len(used)) < batch_size


@given(n=st.integers(0, 200), batch_size=st.integers(1, 70))
def test_evaluation_keeps_all_rows_in_order(n, batch_size):
    rows = np.arange(n, dtype=np.int64)[::-1]
    batches = epoch_batches(rows, batch_size, seed=0, epoch=0, shuffle=False)
    assert np.array_equal(np.concatenate([*batches, np.empty(0, dtype=np.int64)]), rows)
    assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_exactly_half_a_batch_is_kept():
    rows = np.arange(15, dtype=np.int64)
    assert [len(batch) for batch in epoch_batches(rows, 10, 0, 0, shuffle=True)] == [10, 5]
    assert [len(batch) for batch in epoch_batches(rows[:14], 10, 0, 0, shuffle=True)] == [10]


def test_epochs_seeds_and_uses_have_unrelated_orders():
    rows = np.arange(50, dtype=np.int64)
    orders = [
        tuple(np.concatenate(epoch_batches(rows, 10, seed, epoch, shuffle=True)))
        for seed, epoch in [(0, 0), (0, 1), (1, 0), (0, 2)]
    ]
    assert len(set(orders)) == 4
    assert set(orders[0][:10]) != set(split_rows(50, 0, 0.2, 0)[Split.TEST])


@pytest.mark.parametrize(("batch_size", "epoch"), [(0, 0), (-4, 0), (8, -1)])
def test_batch_size_and_epoch_out_of_range_are_refused(batch_size, epoch):
    with pytest.raises(ConfigError):
        epoch_batches(np.arange(10, dtype=np.int64), batch_size, 0, epoch, shuffle=True)
