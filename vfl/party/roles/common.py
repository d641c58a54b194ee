"""What both roles share: their data, keys and bottom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from vfl.checkpoints.store import Snapshot
from vfl.data.table import Table
from vfl.he.arithmetic.updates import update_kernel
from vfl.he.pool import Pools
from vfl.ids import Batch, CheckpointId, Role, Split, StepKey
from vfl.interact.fixed_point import IntArray
from vfl.interact.layer import InteractionShape
from vfl.interact.weights import Kernel
from vfl.job.callbacks import Ready
from vfl.job.digests import training_statement
from vfl.job.plan import EpochKind
from vfl.messages import Aligned
from vfl.messages.exchange import Exchange
from vfl.models.arithmetic import model_arithmetic
from vfl.models.seeding import seeded
from vfl.party.config import PartySetup
from vfl.party.learning import snapshots
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.dataset import Dataset
from vfl.party.learning.inputs import InitialBottom, commit_to_inputs, settings_digest
from vfl.party.learning.outputs.moments import OutputMoments
from vfl.party.memory_estimate import check_memory
from vfl.party.own_bottom import build_own_bottom
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.peers.key_exchange import AgreedState, OwnPart, SessionKeys
from vfl.party.roles.disclosure import Disclosure
from vfl.party.roles.rows.common_ids import CommonIds
from vfl.party.roles.rows.membership import SplitAgreement
from vfl.party.roles.shape import agreed_shape
from vfl.party.roles.worker import LoadedRows
from vfl.pki.credentials import Credentials
from vfl.privacy.lineage import digest
from vfl.privacy.releases import Releases
from vfl.runtime.progress import piece_finished
from vfl.runtime.randomness import derive_entropy, derive_seed, training_generator


class PartyContext:
    """State of one party in one job that does not depend on its role.

    Args:
        pools: random material generated in advance.
        credentials: the party's credentials; None only with ``insecure-loopback``.

    Attributes:
        attempts: at the run so far; ``interruptions`` are what ended those that this process took part in.
    """

    attempts = 1
    interruptions: tuple[str, ...] = ()

    def __init__(self, setup: PartySetup, mail: ExchangeDriver, pools: Pools, credentials: Credentials | None) -> None:
        self.setup = setup
        self.mail = mail
        self.pools = pools
        encrypted, federation = setup.job.interaction.protocol == "encrypted", setup.federation.name
        self.keys = SessionKeys(
            setup.name, setup.parameters, encrypted=encrypted, federation=federation, credentials=credentials
        )
        self._private_seed = setup.own_seed()
        self._statement = training_statement(setup.job, setup.federation)
        self._agreed = AgreedState(self._statement)
        self.disclosure = Disclosure(setup)
        self._table: Table | None = None
        self._table_bytes = 0
        self.loaded_rows = LoadedRows(0, 0)
        self._rows = np.empty(0, dtype=np.int64)
        self._common_ids = CommonIds(setup, mail)
        self._split = SplitAgreement(setup, mail)
        self.restored: Snapshot | None = None
        self.dataset: Dataset
        self._inputs = b""
        self.bottom: BottomTrainer | None = None

    def seed(self, label: str) -> int:
        """A seed of this party for one purpose, bound to the job's public seed."""
        return derive_seed(self._private_seed, self.setup.job.seed, label)

    def generator(self, *labels: str | int) -> np.random.Generator:
        """A training generator of this party for one purpose in this job: no other job draws the same."""
        return training_generator(derive_entropy(self._private_seed, self._statement.hex(), *labels))

    def _secret(self, *labels: str) -> bytes:
        return derive_entropy(self._private_seed, *labels).to_bytes(32, "big")

    def releases(self, sigma: float) -> Releases:
        """What this party's noise is drawn from, at a standard deviation of ``sigma``.

        What every party has put into the model is part of each label: the weights that a release is made with depend on
        all of it.
        """
        if self.restored is not None:
            snapshots.check_inputs(self.restored, self._all_inputs)
        return Releases(self.setup.name, self._statement, self._secret("output noise"), sigma, self._all_inputs)

    @property
    def _all_inputs(self) -> bytes:
        peers, stated = self.keys.peer_parts, repr(sorted(self.widths.items())).encode()
        return digest("all inputs", stated, self._inputs, *(peers[name].inputs for name in sorted(peers)))

    def row_ids(self, batch: Batch) -> list[bytes]:
        """The ids of a batch (B), as this party's own table has them."""
        return self.dataset.ids_of(self.dataset.batch_rows(batch))

    def kernel(self, batch: Batch) -> Kernel:
        """For the step of a batch: the public integer factors of a gradient, by its rows and its age."""
        job, parameters = self.setup.job, self.setup.parameters
        rate, momentum = job.rate_in(0 if job.stagewise else batch.epoch), job.interaction.momentum
        return lambda rows: update_kernel(rate, momentum, rows, parameters)

    async def load(self) -> LoadedRows:
        """Read the table.

        Raises:
            DataError: the table cannot be used.
            PolicyRefusal: with this table, the job may need more memory than this party allows.
        """
        table = await asyncio.to_thread(self.setup.load_table)
        self._table_bytes = table.bytes
        check_memory(self.setup, self._table_bytes, self.setup.job.model.widths)
        self._table = table
        self.loaded_rows = LoadedRows(len(table), table.dropped, table.unlabeled)
        return self.loaded_rows

    async def count_common_ids(self, key: StepKey) -> Aligned:
        """Count the ids that all parties have in common, without revealing which.

        Raises:
            PolicyRefusal: there are too few for this party.
        """
        return Aligned(await self._common_ids.count(self._loaded.ids, key), 0, 0, 0, 0)

    async def find_common_ids(self, key: StepKey) -> None:
        """Keep only the rows whose ids all parties have. The ids are revealed only if every party accepts their number.

        With a ``restored`` snapshot, the rows are those of the checkpoint.

        Raises:
            PolicyRefusal: there are too few for this party.
            CheckpointError: the table has changed since the checkpoint was taken.
        """
        if self.restored is not None:
            self._rows, self._table = await asyncio.to_thread(snapshots.aligned_table, self.restored, self._loaded)
            self.setup.config.policy.check_rows(len(self._rows))
            return
        self._rows = await self._common_ids.find(self._loaded.ids, key)
        self._table = self._loaded.select(self._rows)

    async def agree_on_split(self, key: StepKey) -> None:
        """Agree on which rows train. What is drawn, signed or released from here on is bound to it.

        Raises:
            VflError: see ``SplitAgreement``.
        """
        await self._split.agree(self._loaded, self._secret("split"), key, self.restored)
        self._statement = self._split.bound(self._statement)
        self._agreed = replace(self._agreed, statement=self._statement)

    @property
    def _loaded(self) -> Table:
        if self._table is None:
            raise RuntimeError("the table was used before it was loaded")
        return self._table

    def restore(self, snapshot: Snapshot, checkpoint: CheckpointId) -> None:
        """See ``RoleWorker``."""
        self.restored = snapshot
        lineage, session = snapshots.lineage_of(snapshot), snapshots.session_of(snapshot)
        self._agreed = AgreedState(self._statement, checkpoint.step, checkpoint.attempt, lineage, session)

    def exchange_keys(self, key: StepKey) -> Exchange[None]:
        """Exchange public keys with all peers, and check that they begin or resume with the same state."""
        return self.keys.exchange(self.setup.peers, key, self._agreed, OwnPart(self.width, self._inputs))

    @property
    def trains(self) -> bool:
        """Whether this party has a bottom that trains."""
        return self.bottom is not None and self.bottom.bottom.trainable

    @property
    def width(self) -> int:
        """Width of this party's bottom; 0 where it has none."""
        return 0 if self.bottom is None else self.bottom.bottom.width

    @property
    def widths(self) -> dict[str, int]:
        """Width of every party's bottom, as each has signed it for its peers."""
        known = {name: part.width for name, part in self.keys.peer_parts.items()} | {self.setup.name: self.width}
        return {name: known[name] for name in self.setup.federation.names if name in known}

    async def build(self) -> Aligned:
        """Order, split and preprocess the aligned rows; build and probe the bottom.

        Raises:
            DataError: the rows cannot be used.
            ModelError: the bottom violates its contract.
        """
        return await asyncio.to_thread(self._build)

    @model_arithmetic()
    def _build(self) -> Aligned:
        setup = self.setup
        self.dataset = Dataset(self._loaded, setup.job, self._split.parts(len(self._loaded)))
        if self._loaded.has_features and setup.job.model.widths.get(setup.name) != 0:
            self.bottom = self.make_bottom()
        setup.check_width(self.width)
        self._inputs = self._commit_to_inputs()
        if self.restored is not None:
            snapshots.restore_bottom(self.restored, self.dataset.preprocessor, self.bottom, self._settings)
        counts = {split: len(self.dataset.rows_of(split)) for split in Split}
        return Aligned(len(self._loaded), counts[Split.TRAIN], counts[Split.VALIDATION], counts[Split.TEST], self.width)

    @property
    def _settings(self) -> snapshots.OwnSettings:
        setup = self.setup
        return snapshots.OwnSettings(self.seed("checkpoints"), settings_digest(setup.bottom, setup.optimizer))

    def _commit_to_inputs(self) -> bytes:
        """As in the beginning: a bottom of the user's own need not be built with the same parameters again."""
        if self.restored is not None:
            return snapshots.own_inputs(self.restored)
        passive = self.setup.entry.role is Role.PASSIVE
        outputs = self.outputs(*Split) if passive else ()
        bottom = InitialBottom(self.setup.bottom, self.setup.optimizer, self.bottom, outputs)
        secret = self._secret("inputs", self._statement.hex())
        return commit_to_inputs(secret, self._loaded, self.dataset.preprocessor, bottom)

    def make_bottom(self) -> BottomTrainer:
        """A bottom as it is before training."""
        setup, inputs = self.setup, self.dataset.preprocessor.inputs
        training = self.dataset.features(self.dataset.rows_of(Split.TRAIN))
        bottom = build_own_bottom(setup, inputs, self.seed("bottom"), training)
        return BottomTrainer(bottom, setup.name, setup.optimizer, setup.config.device)

    def ready(self) -> Ready:
        """See ``RoleWorker``."""
        training = len(self.dataset.rows_of(Split.TRAIN))
        steps = max(len(self.dataset.batches(Split.TRAIN, epoch)) for epoch in range(len(self.dataset.plan.epochs)))
        done = 0 if self.restored is None else self.restored.step
        return Ready(len(self._loaded), training, steps, self.setup.job.model.trainable, done)

    def batch_rows(self, batch: Batch) -> int:
        """See ``RoleWorker``."""
        return len(self.dataset.batch_rows(batch))

    def interaction_shape(self) -> InteractionShape:
        """The shape of the interaction layer, which all parties know once their widths are known.

        Raises:
            ParameterError: the analytic bounds do not hold for the resulting layouts.
            PolicyRefusal: with these widths, the job may need more memory than this party allows.
        """
        check_memory(self.setup, self._table_bytes, self.widths)
        self.disclosure.expect({split: self.dataset.ids_of(self.dataset.rows_of(split)) for split in Split})
        return agreed_shape(self.setup, self.widths, {split: len(self.dataset.rows_of(split)) for split in Split})

    def alpha(self, key: StepKey, batch: Batch) -> torch.Tensor | None:
        """Bottom output (B, D) of a batch; None at an active party without features.

        Random layers such as dropout draw the same values whenever the step is repeated.
        """
        if self.bottom is None:
            return None
        features = self.dataset.features(self.dataset.batch_rows(batch))
        with seeded(self.seed(f"layers that draw at random, step {key.step}")):
            return self.bottom.forward(features, training=self.dataset.plan.kind(batch) is EpochKind.JOINT)

    def outputs(self, *splits: Split) -> Iterator[npt.NDArray[np.float64]]:
        """Outputs (B, D) of the bottom in evaluation mode for all rows of some splits, in parts of B rows."""
        if self.bottom is None:
            raise RuntimeError("the party has no bottom")
        rows = np.concatenate([self.dataset.rows_of(split) for split in splits])
        size = self.setup.job.training.evaluation_batch_size
        for start in range(0, len(rows), size):
            alpha_BD = self.bottom.forward(self.dataset.features(rows[start : start + size]), training=False)
            yield alpha_BD.cpu().double().numpy()
            piece_finished()

    def moments(self, *splits: Split) -> OutputMoments:
        """Moments of these outputs."""
        return OutputMoments.of(self.outputs(*splits), self.width)

    def snapshot(self, step: int, weights: Mapping[str, IntArray]) -> Snapshot:
        """The state that both roles have after a step, with this side's interaction weights."""
        commitments = snapshots.Commitments(self.keys.session, self._inputs, self._all_inputs)
        own = self._rows, self._loaded, self.dataset.preprocessor, self.bottom, self._settings, commitments
        taken = snapshots.with_split(snapshots.take_snapshot(step, *own), self._split.packed)
        return snapshots.with_weights(taken, weights)
