"""The same model trained in the clear in one process: by the active party alone, and on everybody's columns pooled.

Same rows, bottoms, top, optimizers, split, schedule and batches as the federation; the interaction layer is plain
floating point, and exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from vfl.ids import Split
from vfl.job.plan import EpochKind
from vfl.models.bottoms import build_bottom
from vfl.models.config import DEFAULT_WIDTH
from vfl.party.config import PartySetup
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.dataset import Dataset, Rows
from vfl.party.learning.local_epoch import local_batches
from vfl.party.learning.outputs.kept import KeptOutputs
from vfl.party.learning.top import TopTrainer
from vfl.runtime.randomness import derive_seed, training_generator


@dataclass(frozen=True)
class Gradients:
    """What a party whose bottom trains receives in the last pass, row by row.

    Attributes:
        d_alpha_BD: gradients of the loss by its activations.
        labels_B: labels of the same rows, which it does not receive.
    """

    d_alpha_BD: npt.NDArray[np.float64]
    labels_B: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """A model trained in the clear.

    Attributes:
        losses: mean loss of every epoch.
        metrics: on the test rows.
        gradients: by party, of those that receive any.
    """

    losses: list[float]
    metrics: dict[str, float]
    gradients: dict[str, Gradients] = field(default_factory=dict)


class _PlainParty:
    """One party's columns and bottom."""

    def __init__(self, setup: PartySetup, common: pl.Series) -> None:
        self.setup = setup
        table = setup.load_table()
        self.dataset = Dataset(table.select(table.ids.is_in(common.implode()).arg_true().to_numpy()), setup.job)
        width = setup.job.model.widths.get(setup.name, DEFAULT_WIDTH)
        training = self.dataset.features(self.dataset.rows_of(Split.TRAIN))
        bottom = build_bottom(
            setup.bottom, self.dataset.preprocessor.inputs, width, self.seed("bottom"), training=training
        )
        self.bottom = BottomTrainer(bottom, setup.name, setup.optimizer, setup.config.device)

    @property
    def width(self) -> int:
        return self.bottom.bottom.width

    def seed(self, label: str) -> int:
        return derive_seed(self.setup.own_seed(), self.setup.job.seed, label)

    def alpha(self, rows: Rows, *, training: bool) -> Tensor:
        return self.bottom.forward(self.dataset.features(rows), training=training)


class _PlainWeights:
    """Floating-point interaction weights W (D, K) of one party that is not the active one, trained by plain SGD."""

    def __init__(self, party: _PlainParty, scale: float) -> None:
        self.party = party
        job = party.setup.job
        shape = (party.width, job.interaction_width)
        initial = np.zeros(shape)
        if not job.stagewise:
            initial = training_generator(party.seed("interaction")).normal(0.0, scale, shape)
        self._weights = torch.from_numpy(initial).float()
        self._velocity = torch.zeros(shape)
        self._job = job
        self._alpha = torch.empty(0)
        self.receives = party.setup.name in job.model.trainable
        self.received: list[Tensor] = []

    def forward(self, rows: Rows, columns: slice, *, training: bool) -> Tensor:
        self._alpha = self.party.alpha(rows, training=training)
        return self._alpha @ self._weights[:, columns]

    def backward(self, d_z_BM: Tensor, columns: slice, rate: float) -> None:
        """For the gradient of the mean loss by some columns of Z."""
        d_alpha_BD = d_z_BM @ self._weights[:, columns].T
        self._velocity = self._job.interaction.momentum * self._velocity
        self._velocity[:, columns] += self._alpha.T @ d_z_BM
        self._weights = self._weights - rate * self._velocity
        if self.receives:
            self.received.append(d_alpha_BD * len(d_alpha_BD))  # for each row by itself, as it crosses
        self.party.bottom.backward(d_alpha_BD)


class _PlainModel:
    def __init__(self, active: PartySetup, others: Sequence[PartySetup], common: pl.Series) -> None:
        self.job = active.job
        self.own = _PlainParty(active, common)
        parties = [_PlainParty(setup, common) for setup in others]
        total_width = self.own.width + sum(party.width for party in parties)
        self.others = [_PlainWeights(party, total_width**-0.5) for party in parties]
        labels = self.own.dataset.labels
        if labels is None:
            raise RuntimeError("the active party's table is always loaded with labels")
        self.labels = labels
        train_labels = labels[self.own.dataset.rows_of(Split.TRAIN)]
        self.upper = TopTrainer.build(active, train_labels, self.own.seed("upper"), self.own.width, total_width)
        self.kept = KeptOutputs(len(labels), self.job.interaction_width)

    def z(self, rows: Rows, columns: slice, *, training: bool) -> Tensor:
        z_BM = torch.zeros(len(rows), columns.stop - columns.start)
        for other in self.others:
            z_BM += other.forward(rows, columns, training=training)
        return z_BM

    def epoch(self, number: int) -> float | None:
        """Do one epoch of the plan; its mean loss, if it trains something."""
        dataset = self.own.dataset
        planned, train_rows = dataset.plan.epochs[number], dataset.rows_of(Split.TRAIN)
        match planned.kind:
            case EpochKind.JOINT:
                batches = [dataset.batch_rows(batch) for batch in dataset.batches(Split.TRAIN, number)]
                rate = self.job.rate_in(number)
                for other in self.others:
                    other.received.clear()
                return sum(self._joint_step(rows, planned.columns, rate) for rows in batches) / len(batches)
            case EpochKind.LOCAL:
                return self._local_epoch(number)
            case EpochKind.GRADIENT:
                alpha_BD = self.own.alpha(train_rows, training=False)
                loss, d_BM = self.upper.residuals(self.kept.of(train_rows), alpha_BD, self.labels[train_rows])
                self.z(train_rows, planned.columns, training=False)
                for other in self.others:
                    gradient_BM = torch.from_numpy(d_BM / len(train_rows)).float()
                    other.backward(gradient_BM, planned.columns, self.job.interaction_rate)
                return loss
            case EpochKind.RELEASE:
                for split in (Split.TRAIN, Split.VALIDATION):
                    rows = dataset.rows_of(split)
                    self.kept.keep(rows, planned.columns, self.z(rows, planned.columns, training=False))
        return None

    def _joint_step(self, rows: Rows, columns: slice, rate: float) -> float:
        alpha_BD = self.own.alpha(rows, training=True)
        loss, d_z_BK = self.upper.train(self.z(rows, columns, training=True), alpha_BD, self.labels[rows])
        for other in self.others:
            other.backward(torch.from_numpy(d_z_BK / len(rows)).float(), columns, rate)
        self._update(1.0)
        return loss

    def _local_epoch(self, number: int) -> float:
        plan, train_rows = self.own.dataset.plan, self.own.dataset.rows_of(Split.TRAIN)
        order = np.random.default_rng([self.job.seed, number]).permutation(train_rows)
        total = 0.0
        for rows, share in local_batches(plan, number, order, self.job.training.batch_size):
            alpha_BD = self.own.alpha(rows, training=True)
            loss, _ = self.upper.train(self.kept.of(rows), alpha_BD, self.labels[rows])
            self._update(share)
            total += loss * len(rows)
        return total / len(order)

    def _update(self, share: float) -> None:
        self.own.bottom.backward(self.upper.d_alpha, share)
        self.upper.step(share)

    def gradients(self) -> dict[str, Gradients]:
        """What parties whose bottoms train have received in the last pass."""
        dataset, last = self.own.dataset, self.job.passes - 1
        trained = [other for other in self.others if other.receives]
        if not trained:
            return {}
        rows = np.concatenate([dataset.batch_rows(batch) for batch in dataset.batches(Split.TRAIN, last)])
        return {
            other.party.setup.name: Gradients(torch.cat(other.received).double().numpy(), self.labels[rows])
            for other in trained
        }

    def test(self) -> dict[str, float]:
        rows, columns = self.own.dataset.rows_of(Split.TEST), slice(0, self.job.interaction_width)
        z_BK, alpha_BD = self.z(rows, columns, training=False), self.own.alpha(rows, training=False)
        self.upper.score(z_BK, alpha_BD, self.labels[rows])
        return self.upper.metrics()


def common_ids(setups: Sequence[PartySetup]) -> pl.Series:
    """The ids that all these parties have, from their tables side by side."""
    ids, *others = (setup.load_table().ids for setup in setups)
    for other in others:
        ids = ids.filter(ids.is_in(other.implode()))
    return ids


def train_plain(active: PartySetup, others: Sequence[PartySetup], common: pl.Series) -> Trained:
    """Train on the columns of these parties in the clear.

    Args:
        active: the party with the labels, which has features too.
        others: parties whose columns are pooled with it; empty for the active party alone.
        common: ids of the aligned rows; no others are used.
    """
    model = _PlainModel(active, others, common)
    losses = [model.epoch(number) for number in range(len(model.own.dataset.plan.epochs))]
    return Trained([loss for loss in losses if loss is not None], model.test(), model.gradients())
