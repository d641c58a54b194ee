"""What the active party reaches without anybody else: the same model on its own columns, rows and split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vfl.ids import Split
from vfl.job.config import JobConfig
from vfl.party.learning.best_epoch import BestEpoch
from vfl.party.learning.dataset import Dataset
from vfl.party.learning.local_epoch import batches_of_run
from vfl.party.learning.own_model import OwnModel


def train_alone(
    job: JobConfig,
    dataset: Dataset,
    model: OwnModel,
    generator: Callable[[int], np.random.Generator],
    seed: Callable[[int, int], int],
) -> dict[str, float]:
    """Train for as many epochs as the party's part of the joint model has; metrics on the test rows.

    Args:
        model: fresh, and with nothing kept of any other party.
        generator: of the order of an epoch's rows.
        seed: of layers that draw at random, by epoch and batch.
    """
    epochs, rows = dataset.plan.epochs_of_active, dataset.rows_of(Split.TRAIN)
    best = BestEpoch(model, model.upper.task.primary_metric) if job.keeps_best else None
    for number in range(epochs):
        order = generator(number).permutation(rows)
        batches = batches_of_run(number, epochs, order, job.training.batch_size)
        model.epoch(batches, lambda at, number=number: seed(number, at))  # type: ignore[misc]
        if best is not None:
            best.consider(number, model.score(Split.VALIDATION))
    if best is not None:
        best.restore()
    return model.score(Split.TEST)
