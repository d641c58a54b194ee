"""The same model trained in the clear in one process: by the active party alone, and on everybody's columns pooled.

Same rows, bottoms, top, optimizers, split and batches as the federation; the interaction layer is plain floating point.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import torch
from torch import Tensor

from vfl.data.table import Table
from vfl.ids import Batch, Split
from vfl.models.bottoms import build_bottom
from vfl.models.config import BottomInputs
from vfl.party.config import PartySetup
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.dataset import Dataset
from vfl.party.learning.top import TopTrainer
from vfl.runtime.randomness import derive_seed, training_generator


class _PlainParty:
    """One party's columns and bottom."""

    def __init__(self, setup: PartySetup, common: pl.Series) -> None:
        self.setup = setup
        table = _load(setup)
        self.dataset = Dataset(table.select(table.ids.is_in(common.implode()).arg_true().to_numpy()), setup.job)
        preprocessor = self.dataset.preprocessor
        inputs = BottomInputs(preprocessor.numeric_width, preprocessor.cardinalities)
        bottom = build_bottom(setup.config.bottom, inputs, setup.width, self.seed("bottom"))
        self.bottom = BottomTrainer(bottom, setup.name, setup.optimizer, setup.config.device)

    def seed(self, label: str) -> int:
        return derive_seed(self.setup.own_seed(), self.setup.job.seed, label)

    def alpha(self, batch: Batch) -> Tensor:
        features = self.dataset.features(self.dataset.batch_rows(batch))
        return self.bottom.forward(features, training=batch.split is Split.TRAIN)


class _PlainWeights:
    """Floating-point interaction weights W (D, K) of one party that is not the active one, trained by plain SGD."""

    def __init__(self, party: _PlainParty) -> None:
        self.party = party
        model = party.setup.job.model
        generator = training_generator(party.seed("interaction"))
        scale = sum(model.widths.values()) ** -0.5
        initial = generator.normal(0.0, scale, (party.setup.width, model.interaction_width))
        self._weights = torch.from_numpy(initial).float()
        self._learning_rate = party.setup.job.interaction.learning_rate
        self._alpha = torch.empty(0)

    def forward(self, batch: Batch) -> Tensor:
        self._alpha = self.party.alpha(batch)
        return self._alpha @ self._weights

    def backward(self, d_z_BK: Tensor) -> None:
        """For the gradient of the mean loss by Z."""
        d_alpha_BD = d_z_BK @ self._weights.T
        self._weights -= self._learning_rate * (self._alpha.T @ d_z_BK)
        self.party.bottom.backward(d_alpha_BD)


class _PlainModel:
    def __init__(self, active: PartySetup, others: Sequence[PartySetup], common: pl.Series) -> None:
        self.job = active.job
        self.own = _PlainParty(active, common)
        self.others = [_PlainWeights(_PlainParty(setup, common)) for setup in others]
        labels = self.own.dataset.labels
        if labels is None:
            raise RuntimeError("the active party's table is always loaded with labels")
        self.labels = labels
        train_labels = labels[self.own.dataset.rows_of(Split.TRAIN)]
        self.upper = TopTrainer.build(active, train_labels, self.own.seed("upper"))

    def z(self, batch: Batch) -> Tensor:
        rows = len(self.own.dataset.batch_rows(batch))
        z_BK = torch.zeros(rows, self.job.model.interaction_width)
        for other in self.others:
            z_BK += other.forward(batch)
        return z_BK

    def train_batch(self, batch: Batch) -> float:
        rows = self.own.dataset.batch_rows(batch)
        alpha_BD = self.own.alpha(batch) if self.own.setup.width else None
        loss, d_z_BK = self.upper.train(self.z(batch), alpha_BD, self.labels[rows])
        for other in self.others:
            other.backward(torch.from_numpy(d_z_BK / len(rows)).float())
        self.own.bottom.backward(self.upper.d_alpha)
        self.upper.step()
        return loss

    def test(self) -> dict[str, float]:
        for batch in self.own.dataset.batches(Split.TEST, self.job.training.epochs):
            rows = self.own.dataset.batch_rows(batch)
            self.upper.score(self.z(batch), self.own.alpha(batch), self.labels[rows])
        return self.upper.metrics()


def common_ids(setups: Sequence[PartySetup]) -> pl.Series:
    """The ids that all these parties have, from their tables side by side."""
    ids, *others = (_load(setup).ids for setup in setups)
    for other in others:
        ids = ids.filter(ids.is_in(other.implode()))
    return ids


def _load(setup: PartySetup) -> Table:
    return setup.load_table()


def train_plain(
    active: PartySetup, others: Sequence[PartySetup], common: pl.Series
) -> tuple[list[float], dict[str, float]]:
    """Train on the columns of these parties in the clear.

    Args:
        active: the party with the labels, which has features too.
        others: parties whose columns are pooled with it; empty for the active party alone.
        common: ids of the aligned rows; no others are used.

    Returns:
        Mean loss of every epoch, and the test metrics.
    """
    model = _PlainModel(active, others, common)
    losses = []
    for epoch in range(active.job.training.epochs):
        batches = model.own.dataset.batches(Split.TRAIN, epoch)
        losses.append(sum(model.train_batch(batch) for batch in batches) / len(batches))
    return losses, model.test()
