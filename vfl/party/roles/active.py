"""The active party's part of a job, phase by phase. Read it alongside ``passive.py``."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence

import torch
from torch import Tensor

from vfl.checkpoints.store import Snapshot
from vfl.errors import ModelError
from vfl.ids import Batch, CheckpointId, Phase, Split, StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.fixed_point import IntArray, check_step, quantize_gradient, z_to_real
from vfl.interact.layer import ActiveInteraction, InteractionShape
from vfl.interact.plaintext import PlaintextActive
from vfl.job.best_epoch import BestSoFar
from vfl.job.callbacks import Ready
from vfl.messages import Aligned
from vfl.models.arithmetic import model_arithmetic
from vfl.models.certificate import certified_lipschitz
from vfl.models.tasks.class_order import Labels
from vfl.party.learning.bottom import prefixed, under
from vfl.party.learning.outputs.kept import KeptOutputs
from vfl.party.learning.own_model import OwnModel
from vfl.party.learning.snapshots import UPPER, interaction_weights, load
from vfl.party.learning.top import TopTrainer
from vfl.party.roles.best_pass import BestPass
from vfl.party.roles.common import PartyContext
from vfl.party.roles.local_training import METRIC_DECIMALS, LocalTraining
from vfl.party.roles.saving import save_active
from vfl.party.roles.worker import LoadedRows
from vfl.privacy.releases import Releases
from vfl.runtime.logs import get_logger

_KEPT = "kept"
_LOCAL = "local"

_log = get_logger("vfl.party")


class ActiveParty:
    """Labels, its own bottom, the interaction layer and the top model."""

    def __init__(self, state: PartyContext) -> None:
        self._state = state
        self._own: OwnModel
        self._local: LocalTraining
        self._shape: InteractionShape
        self._releases: Releases
        self._interaction: ActiveInteraction
        self._alpha: Tensor | None = None
        self._z: IntArray | None = None
        self._d_z: IntArray | None = None
        self._phases: dict[Phase, Callable[[StepKey, Batch], Awaitable[dict[str, float] | None]]] = {
            Phase.BOTTOM_FORWARD: self._bottom_forward,
            Phase.INTERACTION_FORWARD: self._interaction_forward,
            Phase.TOP: self._top,
            Phase.RESIDUALS: self._residuals,
            Phase.INTERACTION_BACKWARD: self._interaction_backward,
            Phase.WEIGHT_STEP: self._weight_step,
            Phase.BOTTOM_BACKWARD: self._bottom_backward,
            Phase.KEEP: self._keep,
            Phase.LOCAL_EPOCH: self._local_epoch,
            Phase.SCORE: self._score,
            Phase.MARK_BEST: self._mark_best,
            Phase.RESTORE_BEST: self._restore_best,
        }
        self._best = BestPass(state)

    @property
    def best_so_far(self) -> BestSoFar:
        """See ``RoleWorker``."""
        return self._best.so_far

    async def load(self) -> LoadedRows:
        """See ``RoleWorker``."""
        return await self._state.load()

    def restore(self, snapshot: Snapshot, checkpoint: CheckpointId) -> None:
        """See ``RoleWorker``."""
        self._state.restore(snapshot, checkpoint)

    async def align(self, key: StepKey, *, count_only: bool) -> Aligned:
        """See ``RoleWorker``."""
        state = self._state
        if count_only:
            return await state.count_common_ids(key)
        await state.find_common_ids(key)
        await state.agree_on_split(key)
        aligned = await state.build()
        await state.mail.run(state.exchange_keys(key), key, "exchanging public keys")
        upper = await asyncio.to_thread(self._make_upper, sum(state.widths.values()))
        kept = KeptOutputs(aligned.rows, state.setup.job.interaction_width)
        self._own = OwnModel(state.dataset, state.bottom, upper, kept)
        self._local = LocalTraining(state, self._own, self._make_upper, self._best.so_far)
        self._local.warn_of_absent_classes()
        if state.restored is not None:
            self._best.load_state(state.restored.tensors)
            load(upper, under(UPPER, state.restored.tensors))
            kept.load_state(under(_KEPT, state.restored.tensors))
            self._local.load_state(under(_LOCAL, state.restored.tensors))
            self._local.load_facts(state.restored.facts)
        return aligned

    @property
    def _upper(self) -> TopTrainer:
        return self._own.upper

    @model_arithmetic()
    def _make_upper(self, total_width: int) -> TopTrainer:
        state, dataset = self._state, self._state.dataset
        if dataset.labels is None:
            raise RuntimeError("the active party has no labels")
        rows, seed = dataset.rows_of(Split.TRAIN), state.seed("upper")
        weights = dataset.weights_of(rows)
        return TopTrainer.build(state.setup, dataset.labels[rows], seed, state.width, total_width, weights)

    async def begin(self, key: StepKey) -> None:
        """See ``RoleWorker``."""
        self._shape = self._state.interaction_shape()
        self._interaction = self._make_interaction(self._shape)
        if self._state.restored is not None:
            self._interaction.restore(interaction_weights(self._state.restored))
            return
        await self._state.mail.run(self._interaction.setup(), key, "initial interaction weights")

    def snapshot(self, step: int) -> Snapshot:
        """See ``RoleWorker``."""
        common = self._state.snapshot(step, self._interaction.state())
        own = {**prefixed(UPPER, self._upper.state()), **prefixed(_KEPT, self._own.kept.state())}
        own |= prefixed(_LOCAL, self._local.state()) | self._best.state()
        return Snapshot(step, {**common.tensors, **own}, {**common.facts, **self._local.facts()})

    def _make_interaction(self, shape: InteractionShape) -> ActiveInteraction:
        state = self._state
        parameters = state.setup.parameters
        releases = self._releases = state.releases(state.setup.job.privacy.d_alpha_noise)
        if state.keys.secret is None:
            return PlaintextActive(shape, parameters, releases)
        return EncryptedActive(shape, parameters, state.keys.secret, state.keys.peer_encryption, state.pools, releases)

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """See ``RoleWorker``."""
        metrics = await self._phases[phase](key, batch) or {}
        if not all(math.isfinite(value) for value in metrics.values()):
            raise ModelError("the loss is not a finite number: training diverged", remedy="lower the learning rates")
        published = {name: round(value, METRIC_DECIMALS) for name, value in metrics.items()}
        if "loss" in published:
            self._local.trained(batch, published["loss"])
        return published

    async def _bottom_forward(self, key: StepKey, batch: Batch) -> None:
        self._alpha = await asyncio.to_thread(self._state.alpha, key, batch)

    async def _interaction_forward(self, key: StepKey, batch: Batch) -> None:
        rows = len(self._state.dataset.batch_rows(batch))
        exchange = self._interaction.forward(key, rows, self._state.dataset.plan.columns(batch))
        self._z = await self._state.mail.run(exchange, key, "the interaction's forward pass")

    async def _top(self, key: StepKey, batch: Batch) -> dict[str, float]:
        return await asyncio.to_thread(self._train_top, key, batch)

    def _train_top(self, key: StepKey, batch: Batch) -> dict[str, float]:
        """Compute the loss of the batch; keep dL/dZ per sample in fixed point, and dL/d alpha for the own bottom."""
        parameters = self._state.setup.parameters
        weights = self._state.dataset.weights_of(self._state.dataset.batch_rows(batch))
        loss, d_z_BK = self._upper.train(self._real_z(), self._alpha, self._labels(batch), weights)
        generator = self._state.generator("rounding", key.step)
        self._d_z = quantize_gradient(d_z_BK, parameters, generator)
        return {"loss": loss}

    def _real_z(self) -> Tensor:
        z_BK, self._z = self._z, None
        if z_BK is None:
            raise RuntimeError("the top phase ran before the interaction's forward phase")
        real = z_to_real(z_BK, self._state.setup.parameters)
        return torch.from_numpy(real).to(torch.float32)

    def _labels(self, batch: Batch) -> Labels:
        return self._own.labels_of(self._state.dataset.batch_rows(batch))

    async def _interaction_backward(self, key: StepKey, batch: Batch) -> None:
        d_z_BK, self._d_z = self._d_z, None
        if d_z_BK is None:
            raise RuntimeError("the interaction's backward phase ran before the top phase")
        self._check_step(d_z_BK, batch)
        columns = self._state.dataset.plan.columns(batch)
        labels = await asyncio.to_thread(self._charge_gradients, key, batch, d_z_BK, columns)
        exchange = self._interaction.backward(key, d_z_BK, labels, columns)
        await self._state.mail.run(exchange, key, "the interaction's backward pass")

    def _charge_gradients(
        self, key: StepKey, batch: Batch, d_z_BK: IntArray, columns: slice
    ) -> dict[str, Sequence[bytes]]:
        """Count the releases of d alpha before they leave; the labels of each receiver's."""
        state, releases = self._state, self._releases
        row_ids = state.row_ids(batch)
        labels: dict[str, Sequence[bytes]] = {}
        for receiver in sorted(self._shape.gradient_receivers):
            of_rows = labels[receiver] = releases.labels(receiver, row_ids, d_z_BK, columns)
            width = self._shape.widths[receiver]
            state.disclosure.of_gradients(releases, key.run, receiver, row_ids, of_rows, columns, width)
        return labels

    def _check_step(self, d_z_BK: IntArray, batch: Batch) -> None:
        """In stagewise training the passive parties check it, who know their activations: see ``OutputScale``."""
        job = self._state.setup.job
        if not job.stagewise:
            width, trains = sum(self._shape.widths.values()), bool(self._shape.gradient_widths)
            rate, momentum = job.rate_in(batch.epoch), job.interaction.momentum
            parameters, noise = self._state.setup.parameters, job.relative_noise
            check_step(d_z_BK, rate, width, parameters, momentum=momentum, trains=trains, relative_noise=noise)

    async def _weight_step(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(self._interaction.step, self._state.kernel(batch))

    async def _bottom_backward(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(self._own.update)

    async def _mark_best(self, key: StepKey, batch: Batch) -> None:
        self._best.mark(batch.epoch, self.snapshot(key.step))

    async def _restore_best(self, key: StepKey, batch: Batch) -> None:
        kept = await self._best.restore(self._interaction, key)
        load(self._upper, under(UPPER, kept.tensors))

    # --- stagewise training ---

    async def _residuals(self, key: StepKey, batch: Batch) -> dict[str, float]:
        return await asyncio.to_thread(self._find_residuals, key, batch)

    def _find_residuals(self, key: StepKey, batch: Batch) -> dict[str, float]:
        """The gradient of the loss of what this party has so far, by logits: what the next columns of Z are to fit."""
        state, rows = self._state, self._state.dataset.batch_rows(batch)
        weights = state.dataset.weights_of(rows)
        loss, gradient_BM = self._upper.residuals(self._own.kept.of(rows), self._alpha, self._labels(batch), weights)
        self._d_z = quantize_gradient(gradient_BM, state.setup.parameters, state.generator("rounding", key.step))
        return {"loss": loss}

    async def _keep(self, key: StepKey, batch: Batch) -> None:
        dataset = self._state.dataset
        self._own.kept.keep(dataset.batch_rows(batch), dataset.plan.columns(batch), self._real_z())

    async def _local_epoch(self, key: StepKey, batch: Batch) -> dict[str, float]:
        return {"loss": await asyncio.to_thread(self._local.epoch, batch)}

    async def _score(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(lambda: self._upper.score(self._real_z(), self._alpha, self._labels(batch)))

    def ready(self) -> Ready:
        """See ``RoleWorker``."""
        return self._state.ready()

    def batch_rows(self, batch: Batch) -> int:
        """See ``RoleWorker``."""
        return self._state.batch_rows(batch)

    async def score(self, batch: Batch) -> dict[str, float]:
        """See ``RoleWorker``. On the test rows, a model of this party alone is scored, too."""
        return await asyncio.to_thread(self._local.score, batch)

    async def save(self, run: str) -> float:
        """See ``RoleWorker``."""
        report = self._local.report(run)
        await asyncio.to_thread(save_active, self._state, run, self._interaction.shares(), self._upper, report)
        return await asyncio.to_thread(certified_lipschitz, self._upper.top)
