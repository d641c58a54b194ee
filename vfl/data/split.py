"""Which rows belong to training, validation and test, and the batches of an epoch; the same at every party.

How many rows each part has follows from the number of aligned rows and the job. Which rows follows from the job's seed,
or is chosen by the active party, by label or by time. The batches follow from the job's seed. By design, split and
order are known to every party and are not a secret.

Random orders come from the raw output of the Philox generator, sorted. NumPy guarantees stable output of its bit
generators and of ``SeedSequence``, but not of ``permutation`` and ``shuffle``, and parties may run different versions
of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError, DataError
from vfl.ids import Split

IndexArray = npt.NDArray[np.int64]
Parts = dict[Split, IndexArray]
"""Row positions of every part, ascending."""

_SPLIT_DOMAIN = 1
_EPOCH_DOMAIN = 2
_SEED_LIMIT = 2**64


def split_sizes(n: int, validation: float, test: float) -> dict[Split, int]:
    """How many of n rows each part has; validation and test sizes are rounded half up, training gets the rest.

    Args:
        n: number of aligned rows.
        validation: share of the rows in [0, 1).
        test: share of the rows in [0, 1).

    Raises:
        ConfigError: shares out of range.
        DataError: the training part, or a part with a share above 0, would have no rows.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ConfigError(
            "the shares of validation and test rows are out of range",
            detail=f"validation is {validation}, test is {test}",
            remedy="choose shares of at least 0 that add up to less than 1",
        )
    test_rows = math.floor(n * test + 0.5)
    validation_rows = math.floor(n * validation + 0.5)
    sizes = {
        Split.TRAIN: max(0, n - test_rows - validation_rows),
        Split.VALIDATION: min(validation_rows, n - test_rows),
        Split.TEST: test_rows,
    }
    needed = {Split.TRAIN: True, Split.VALIDATION: validation > 0, Split.TEST: test > 0}
    empty = [part.value for part, size in sizes.items() if needed[part] and size == 0]
    if empty:
        raise DataError(
            f"there are too few aligned rows ({n}): none are left for {' and '.join(empty)}",
            remedy="provide more rows, or change the shares of validation and test",
        )
    return sizes


def split_rows(n: int, validation: float, test: float, seed: int) -> Parts:
    """Split the rows 0..n-1 at random; a rare class may be distributed unevenly.

    Args:
        n, validation, test: see ``split_sizes``.
        seed: the job's seed, 0 <= seed < 2^64.

    Raises:
        ConfigError: shares or seed out of range.
        DataError: a part that is needed would have no rows.
    """
    sizes = split_sizes(n, validation, test)
    return ordered_parts(sizes, _random_order(n, seed, _SPLIT_DOMAIN)[::-1])


def ordered_parts(sizes: Mapping[Split, int], order: IndexArray) -> Parts:
    """The first rows of an order train, the next ones are for validation, the last ones for the test.

    Args:
        sizes: rows of each part, n in all.
        order: a permutation of 0..n-1, such as rows by time.
    """
    first, second = sizes[Split.TRAIN], sizes[Split.TRAIN] + sizes[Split.VALIDATION]
    return {
        Split.TRAIN: np.sort(order[:first]),
        Split.VALIDATION: np.sort(order[first:second]),
        Split.TEST: np.sort(order[second:]),
    }


def stratified_parts(sizes: Mapping[Split, int], strata: IndexArray, keys: npt.NDArray[np.uint64]) -> Parts:
    """Each stratum has its share of every part (``rows_of_strata``); which of its rows, the keys decide.

    If the keys are uniform, so is the result over all splits with these numbers of rows.

    Args:
        sizes: rows of each part, n in all.
        strata: the stratum of each row (n), counted from 0.
        keys: of each row (n).
    """
    counts = np.bincount(strata)
    order = np.lexsort((keys, strata))
    place = np.empty(len(strata), dtype=np.int64)  # of each row within its stratum
    place[order] = np.arange(len(strata)) - np.repeat(np.cumsum(counts) - counts, counts)
    ends = np.cumsum(rows_of_strata(counts, [sizes[part] for part in Split]), axis=1)
    part_of_row = (place[:, None] >= ends[strata]).sum(axis=1)
    return {part: np.flatnonzero(part_of_row == at).astype(np.int64) for at, part in enumerate(Split)}


def rows_of_strata(counts: IndexArray, sizes: Sequence[int]) -> IndexArray:
    """How many rows of each stratum (S) each part (P) gets: its exact share, rounded up or down, as integers (S, P).

    Rows and columns add up to the arguments. Shares below one row are rounded up where that can be.

    The rounding moves fractions around cycles (controlled rounding; Causey, Cox and Ernst, 1985): a table of fractions
    whose rows and columns have whole sums can always be rounded so that the sums stay.

    Args:
        counts: rows of each stratum (S), n in all.
        sizes: rows of each part (P), up to 3; n in all.
    """
    rows = int(np.sum(counts))
    whole, left = np.divmod(np.outer(counts, sizes), rows)  # ``left`` is in units of 1/n
    while (between := (left > 0) & (left < rows)).any():
        absent = between & (whole == 0)
        row, column = np.argwhere(absent if absent.any() else between)[0]
        cycle = _cycle(between, int(row), int(column))
        step = min(left[at] if turn % 2 else rows - left[at] for turn, at in enumerate(cycle))
        for turn, at in enumerate(cycle):
            left[at] += -step if turn % 2 else step
    rounded: IndexArray = whole + left // rows
    return rounded


def _cycle(between: npt.NDArray[np.bool_], row: int, column: int) -> list[tuple[int, int]]:
    """Cells of a closed path through cells that are set, in turn along a row and along a column, from one of them on.

    There is one: if a cell were on no such path, its value would be a difference of whole sums.
    """
    others = [other for other in np.flatnonzero(between[row]).tolist() if other != column]
    for other in others:
        for back in np.flatnonzero(between[:, other] & between[:, column]).tolist():
            if back != row:
                return [(row, column), (row, other), (back, other), (back, column)]
    for other in others:
        (third,) = {0, 1, 2} - {column, other}
        there = [at for at in np.flatnonzero(between[:, other] & between[:, third]).tolist() if at != row]
        home = [at for at in np.flatnonzero(between[:, third] & between[:, column]).tolist() if at != row]
        if there and home:
            first, second = there[0], home[0]
            return [(row, column), (row, other), (first, other), (first, third), (second, third), (second, column)]
    raise RuntimeError("fractions whose rows and columns have whole sums are on a cycle")


def epoch_batches(rows: IndexArray, batch_size: int, seed: int, epoch: int, shuffle: bool) -> list[IndexArray]:
    """The batches of one epoch.

    Args:
        rows: row positions of one part.
        batch_size: rows of a full batch.
        seed: the job's seed, 0 <= seed < 2^64.
        epoch: counted from 0; every epoch has its own order.
        shuffle: True for training: random order, and a last batch of less than half the batch size is skipped in this
            epoch, because its few rows would have too much weight in a step. False for evaluation: all rows in the
            given order.

    Returns:
        Arrays of row positions, each with ``batch_size`` rows except possibly the last.

    Raises:
        ConfigError: batch size, seed or epoch out of range.
        DataError: the training rows do not fill half a batch.
    """
    if batch_size < 1:
        raise ConfigError("the batch size is below 1", detail=f"it is {batch_size}", remedy="set it to at least 1")
    ordered = rows[_random_order(len(rows), seed, _EPOCH_DOMAIN, epoch)] if shuffle else rows
    batches = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
    if not shuffle:
        return batches
    if batches and 2 * len(batches[-1]) < batch_size:
        batches.pop()
    if not batches:
        raise DataError(
            f"the {len(rows)} training rows do not fill half a batch of {batch_size}",
            remedy="choose a smaller batch size, or provide more rows",
        )
    return batches


def _random_order(n: int, seed: int, *domain: int) -> IndexArray:
    """Random permutation of 0..n-1. ``domain`` separates uses of one seed: their orders are unrelated."""
    if not (0 <= seed < _SEED_LIMIT and all(0 <= part < 2**32 for part in domain)):
        raise ConfigError(
            "the seed or the epoch is out of range",
            detail=f"the seed is {seed}",
            remedy="choose a whole seed from 0 to 2^64 - 1",
        )
    generator = np.random.Philox(np.random.SeedSequence(seed, spawn_key=domain))
    keys: npt.NDArray[Any] = np.asarray(generator.random_raw(n), dtype=np.uint64)
    return np.argsort(keys, kind="stable").astype(np.int64)
