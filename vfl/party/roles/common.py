"""What the two roles have in common: their data, their keys, their bottom, and the phases they implement."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch

from vfl.align.protocol import Alignment
from vfl.align.sets import BlindedIds
from vfl.checkpoints.store import Snapshot
from vfl.data.table import Table
from vfl.he.arithmetic.updates import check_rates
from vfl.he.bounds import check_bounds
from vfl.he.pool import Pools
from vfl.ids import Batch, Phase, Split, StepKey
from vfl.interact.fixed_point import IntArray
from vfl.interact.layer import InteractionShape
from vfl.job.callbacks import Ready
from vfl.job.schedule import workload
from vfl.messages import Aligned
from vfl.messages.exchange import Exchange
from vfl.models.arithmetic import model_arithmetic
from vfl.models.bottoms import build_bottom, probe_bottom
from vfl.models.config import BottomInputs
from vfl.models.seeding import seeded
from vfl.party.config import PartySetup
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.dataset import Dataset
from vfl.party.learning.snapshots import aligned_table, restore_bottom, take_snapshot, with_weights
from vfl.party.memory_estimate import estimated_peak
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.peers.key_exchange import SessionKeys
from vfl.pki.credentials import Credentials
from vfl.runtime.logs import get_logger
from vfl.runtime.randomness import derive_entropy, derive_seed, training_generator

_log = get_logger("vfl.party")

Result = TypeVar("Result")

SETUP_STEP = 0
"""Messages before the first batch are addressed to this step; batches count from 1."""


class LoadedRows(NamedTuple):
    """Rows of a party's table, and those left out because they have no id."""

    rows: int
    dropped: int


class RoleWorker(Protocol):
    """The active or the passive party of one job, as the service drives it."""

    async def load(self) -> LoadedRows:
        """Read the table; return the number of its rows."""

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from this state, in what follows, instead of beginning anew."""

    async def align(self, key: StepKey, *, count_only: bool) -> Aligned:
        """Find the common ids, exchange keys, build the model; or only count the common ids."""

    async def begin(self, key: StepKey, gradient_receivers: frozenset[str]) -> None:
        """Agree on initial interaction weights."""

    def snapshot(self, step: int) -> Snapshot:
        """The state after a step; its tensors change with the next one."""

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """Do one phase of one batch; return published metrics."""

    def ready(self, gradient_receivers: tuple[str, ...]) -> Ready:
        """What training begins with, or resumes with."""

    def batch_rows(self, batch: Batch) -> int:
        """Rows of a batch."""

    async def score(self) -> dict[str, float]:
        """Metrics of everything scored since the last call."""

    async def save(self, run: str) -> float:
        """Save this party's part of the model; return the certified Lipschitz constant (0 at a passive party)."""


class PartyContext:
    """State of one party in one job that does not depend on its role.

    Args:
        pools: random material made in advance.
        credentials: the party's; None only with ``insecure-loopback``.
    """

    def __init__(self, setup: PartySetup, mail: ExchangeDriver, pools: Pools, credentials: Credentials | None) -> None:
        self.setup = setup
        self.mail = mail
        self.pools = pools
        self.encrypted = setup.job.interaction.protocol == "encrypted"
        self.keys = SessionKeys(
            setup.name,
            setup.parameters,
            encrypted=self.encrypted,
            federation=setup.federation.name,
            credentials=credentials,
        )
        self._private_seed = setup.own_seed()
        self._table: Table | None = None
        self._rows = np.empty(0, dtype=np.int64)
        self._blinded: BlindedIds | None = None
        self.restored: Snapshot | None = None
        self.dataset: Dataset
        self.bottom: BottomTrainer | None = None

    def seed(self, label: str) -> int:
        """A seed of this party for initial weights, bound to the job's public seed."""
        return derive_seed(self._private_seed, self.setup.job.seed, label)

    def generator(self, *labels: str | int) -> np.random.Generator:
        """A training generator of this party for one purpose, bound to the job's public seed."""
        return training_generator(derive_entropy(self._private_seed, self.setup.job.seed, *labels))

    async def load(self) -> LoadedRows:
        """Read the table.

        Raises:
            DataError: it cannot be used.
            PolicyRefusal: with this table, the job may need more memory than this party gives it.
        """
        setup = self.setup
        table = await asyncio.to_thread(setup.load_table)
        estimate = estimated_peak(setup, table.bytes)
        _log.info("memory", needed_at_most_mb=estimate // 10**6, allowed_mb=setup.config.policy.max_memory_mb)
        setup.config.policy.check_memory(estimate)
        self._table = table
        return LoadedRows(len(table), table.dropped)

    async def count_common_ids(self, key: StepKey) -> Aligned:
        """How many ids all parties have in common; nobody learns which.

        Raises:
            PolicyRefusal: too few for this party.
        """
        async with self._alignment(key) as alignment:
            rows = await self._run_alignment(alignment.count(), key, "counting the common ids")
        return Aligned(rows, 0, 0, 0, self.setup.width, trainable=False)

    async def find_common_ids(self, key: StepKey) -> None:
        """Keep of the table the rows whose ids all parties have. Which they are is told only if all accept the number.

        After ``restored`` they are those of the checkpoint.

        Raises:
            PolicyRefusal: too few for this party.
            CheckpointError: the table has changed since the checkpoint.
        """
        if self.restored is not None:
            self._rows, self._table = await asyncio.to_thread(aligned_table, self.restored, self._loaded)
            self.setup.config.policy.check_rows(len(self._rows))
            return
        async with self._alignment(key) as alignment:
            await self._run_alignment(alignment.count(), key, "counting the common ids")
            self._rows = await self._run_alignment(alignment.reveal(), key, "finding the common ids")
        self._table = self._loaded.select(self._rows)

    async def _run_alignment(self, exchange: Exchange[Result], key: StepKey, purpose: str) -> Result:
        """A message may take as long as a slower party needs for the longest list."""
        return await self.mail.run(exchange, key, purpose, self.setup.job.timeouts.alignment)

    @asynccontextmanager
    async def _alignment(self, key: StepKey) -> AsyncIterator[Alignment]:
        """An alignment whose helper processes end with it; what is blinded is kept for another attempt of the job."""
        setup = self.setup
        parties = (setup.federation.active.name, *(party.name for party in setup.federation.passives))
        if self._blinded is None:
            processes = setup.config.threads or os.cpu_count() or 1
            self._blinded = await asyncio.to_thread(BlindedIds, self._loaded.ids, key.run, processes)
        try:
            yield Alignment(parties, setup.name, self._blinded, setup.config.policy.check_rows)
        finally:
            await asyncio.to_thread(self._blinded.close)

    @property
    def _loaded(self) -> Table:
        if self._table is None:
            raise RuntimeError("the table is used before it is loaded")
        return self._table

    async def build(self) -> Aligned:
        """Of the aligned rows: order, split, preprocess; build and probe the bottom.

        Raises:
            DataError, ModelError: with what to change.
        """
        return await asyncio.to_thread(self._build)

    @model_arithmetic()
    def _build(self) -> Aligned:
        setup = self.setup
        self.dataset = Dataset(self._loaded, setup.job)
        if setup.width:
            self.bottom = self._build_bottom()
        if self.restored is not None:
            restore_bottom(self.restored, self.dataset.preprocessor, self.bottom, self.seed("checkpoints"))
        counts = {split: len(self.dataset.rows_of(split)) for split in Split}
        return Aligned(
            rows=len(self._loaded),
            train_rows=counts[Split.TRAIN],
            validation_rows=counts[Split.VALIDATION],
            test_rows=counts[Split.TEST],
            width=setup.width,
            trainable=self.bottom is not None and self.bottom.bottom.trainable,
        )

    def _build_bottom(self) -> BottomTrainer:
        setup, preprocessor = self.setup, self.dataset.preprocessor
        inputs = BottomInputs(preprocessor.numeric_width, preprocessor.cardinalities)
        bottom = build_bottom(setup.config.bottom, inputs, setup.width, self.seed("bottom"), setup.given.bottom)
        probe_bottom(bottom, setup.name)
        return BottomTrainer(bottom.to(setup.config.device), setup.name, setup.optimizer, setup.config.device)

    def ready(self, gradient_receivers: tuple[str, ...]) -> Ready:
        """See ``RoleWorker``."""
        training = len(self.dataset.rows_of(Split.TRAIN))
        steps = len(self.dataset.batches(Split.TRAIN, 0))
        done = 0 if self.restored is None else self.restored.step
        return Ready(len(self._loaded), training, steps, gradient_receivers, done)

    def batch_rows(self, batch: Batch) -> int:
        """See ``RoleWorker``."""
        return len(self.dataset.batch_rows(batch))

    def interaction_shape(self, gradient_receivers: frozenset[str]) -> InteractionShape:
        """The interaction layer as all parties know it, now that it is known which bottoms train.

        Raises:
            ParameterError: the analytic bounds do not hold for the layouts that follow from it.
        """
        setup = self.setup
        model = setup.job.model
        active = setup.federation.active.name
        shape = InteractionShape(
            active=active,
            widths={party.name: model.widths[party.name] for party in setup.federation.passives},
            out_width=model.interaction_width,
            own_width=model.widths[active],
            gradient_receivers=gradient_receivers,
            link_mbit=setup.job.interaction.link_mbit,
        )
        work = workload(setup.job, {split: len(self.dataset.rows_of(split)) for split in Split})
        widths = tuple(shape.widths.values())
        check_bounds(setup.parameters, work, widths, shape.out_width, shape.gradient_widths, shape.link_mbit)
        check_rates(setup.job.interaction.learning_rate, 0.0, work.training, setup.parameters)
        return shape

    def alpha(self, key: StepKey, batch: Batch) -> torch.Tensor | None:
        """Bottom output (B, D) of a batch; None at an active party without features.

        Layers that draw at random, like dropout, draw the same whenever the step is computed.
        """
        if self.bottom is None:
            return None
        features = self.dataset.features(self.dataset.batch_rows(batch))
        with seeded(self.seed(f"layers that draw at random, step {key.step}")):
            return self.bottom.forward(features, training=batch.split is Split.TRAIN)

    def snapshot(self, step: int, weights: Mapping[str, IntArray]) -> Snapshot:
        """The state after a step that both roles have, with this side's interaction weights."""
        preprocessor, seed = self.dataset.preprocessor, self.seed("checkpoints")
        common = take_snapshot(step, self._rows, self._loaded, preprocessor, self.bottom, seed)
        return with_weights(common, weights)
