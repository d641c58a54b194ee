"""The batches of an epoch that the active party trains alone."""

import numpy as np
import pytest

from vfl.party.learning.local_epoch import batches_of_run


def batches(rows, batch_size=256, number=0, count=3):
    return list(batches_of_run(number, count, np.arange(rows), batch_size))


@pytest.mark.parametrize(
    ("rows", "size", "steps"),
    [
        (20_000, 256, 79),  # as configured
        (1_000, 62, 17),  # smaller, so that an epoch has enough steps
        (300, 32, 10),
        (120, 32, 16),  # four batches, four times
        (10, 10, 16),
    ],
)
def test_small_tables_have_enough_steps(rows, size, steps):
    found = batches(rows)
    assert len(found) == steps
    assert max(len(batch) for batch, _ in found) == size


@pytest.mark.parametrize("rows", [10, 120, 300, 1000])
def test_every_row_takes_part_equally_often(rows):
    counts = np.bincount(np.concatenate([batch for batch, _ in batches(rows)]), minlength=rows)
    assert len(set(counts.tolist())) == 1


def test_the_learning_rate_falls_over_all_epochs_of_a_run():
    shares = [share for number in range(3) for _, share in batches(120, number=number)]
    assert shares[0] == 1.0
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < 0.01
