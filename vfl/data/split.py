"""Which rows belong to training, validation and test, and the batches of an epoch; the same at every party.

Every party derives both from numbers that all of them have: the number of aligned rows and the job's seed. By design,
the order is known to every party and is not a secret.

Random orders come from the raw output of the Philox generator, sorted. NumPy guarantees stable output of its bit
generators and of ``SeedSequence``, but not of ``permutation`` and ``shuffle``, and parties may run different versions
of NumPy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError, DataError
from vfl.ids import Split

IndexArray = npt.NDArray[np.int64]

_SPLIT_DOMAIN = 1
_EPOCH_DOMAIN = 2
_SEED_LIMIT = 2**64


def split_rows(n: int, validation: float, test: float, seed: int) -> dict[Split, IndexArray]:
    """Split the rows 0..n-1 at random; validation and test sizes are rounded half up, training gets the rest.

    The split cannot be stratified by label: passive parties have no labels, and a split that depended on them would
    reveal labels. A rare class may therefore be distributed unevenly.

    Args:
        n: number of aligned rows.
        validation: share of the rows in [0, 1).
        test: share of the rows in [0, 1).
        seed: the job's seed, 0 <= seed < 2^64.

    Returns:
        Row positions of every part, ascending; a part with share 0 is empty.

    Raises:
        ConfigError: shares or seed out of range.
        DataError: the training part, or a part with a share above 0, would have no rows.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ConfigError(
            "the shares of validation and test rows are out of range",
            detail=f"validation is {validation}, test is {test}",
            remedy="choose shares of at least 0 that add up to less than 1",
        )
    order = _random_order(n, seed, _SPLIT_DOMAIN)
    test_rows = math.floor(n * test + 0.5)
    held_out = test_rows + math.floor(n * validation + 0.5)
    parts = {
        Split.TRAIN: np.sort(order[held_out:]),
        Split.VALIDATION: np.sort(order[test_rows:held_out]),
        Split.TEST: np.sort(order[:test_rows]),
    }
    needed = {Split.TRAIN: True, Split.VALIDATION: validation > 0, Split.TEST: test > 0}
    empty = [part.value for part, rows in parts.items() if needed[part] and len(rows) == 0]
    if empty:
        raise DataError(
            f"there are too few aligned rows ({n}): none are left for {' and '.join(empty)}",
            remedy="provide more rows, or change the shares of validation and test",
        )
    return parts


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
