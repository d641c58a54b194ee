"""The batches of an epoch that the active party trains alone, with the learning rate of each."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vfl.job.plan import Plan
from vfl.party.learning.dataset import Rows

_LEAST_ROWS, _STEPS = 32, 16
"""Of a batch, and steps of an epoch: a table too small for both is gone through several times in an epoch."""


def local_batches(plan: Plan, epoch: int, order: Rows, batch_size: int) -> Iterator[tuple[Rows, float]]:
    """Batches of a local epoch, each with its share of the learning rate, which falls over consecutive local epochs.

    Args:
        epoch: its number in the plan.
        order: the training rows in the order of this epoch.
        batch_size: of the job; with a small table batches are smaller, so that an epoch has enough steps.
    """
    first, count = plan.local_run(epoch)
    yield from batches_of_run(epoch - first, count, order, batch_size)


def batches_of_run(number: int, count: int, order: Rows, batch_size: int) -> Iterator[tuple[Rows, float]]:
    """Batches of one of ``count`` consecutive epochs, the first of which has the number 0; see ``local_batches``."""
    size = min(batch_size, max(_LEAST_ROWS, len(order) // _STEPS))
    starts = range(0, len(order), size)
    # A table of a few batches is gone through several times, so that an epoch has enough steps.
    steps = [start for _ in range(max(1, _STEPS // len(starts))) for start in starts]
    for at, start in enumerate(steps):
        yield order[start : start + size], _half_cosine((number + at / len(steps)) / count)


def _half_cosine(done: float) -> float:
    """What is left of the learning rate when this part of the epochs is done: from 1 down to 0.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, without restarts.
    """
    return 0.5 * (1.0 + math.cos(math.pi * done))
