"""The active party's part of a job, phase by phase. Read it beside ``passive.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import torch
from torch import Tensor

from vfl.checkpoints.store import Snapshot
from vfl.ids import Batch, Phase, Split, StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.fixed_point import IntArray, check_step, quantize_gradient, update_multiplier, z_to_real
from vfl.interact.layer import ActiveInteraction, InteractionShape
from vfl.interact.plaintext import PlaintextActive
from vfl.job.callbacks import Ready
from vfl.messages import Aligned
from vfl.models.arithmetic import model_arithmetic
from vfl.models.certificate import certified_lipschitz
from vfl.party.learning.bottom import prefixed, under
from vfl.party.learning.snapshots import interaction_weights, load
from vfl.party.learning.top import TopTrainer
from vfl.party.roles.common import LoadedRows, PartyContext
from vfl.party.roles.saving import save_active

_UPPER = "upper"


class ActiveParty:
    """Labels, its own bottom, the interaction layer and the top model."""

    def __init__(self, state: PartyContext) -> None:
        self._state = state
        self._upper: TopTrainer
        self._shape: InteractionShape
        self._interaction: ActiveInteraction
        self._alpha: Tensor | None = None
        self._z: IntArray | None = None
        self._d_z: IntArray | None = None
        self._phases: dict[Phase, Callable[[StepKey, Batch], Awaitable[dict[str, float] | None]]] = {
            Phase.BOTTOM_FORWARD: self._bottom_forward,
            Phase.INTERACTION_FORWARD: self._interaction_forward,
            Phase.TOP: self._top,
            Phase.INTERACTION_BACKWARD: self._interaction_backward,
            Phase.BOTTOM_BACKWARD: self._bottom_backward,
            Phase.SCORE: self._score,
        }

    async def load(self) -> LoadedRows:
        """See ``RoleWorker``."""
        return await self._state.load()

    def restore(self, snapshot: Snapshot) -> None:
        """See ``RoleWorker``."""
        self._state.restored = snapshot

    async def align(self, key: StepKey, *, count_only: bool) -> Aligned:
        """See ``RoleWorker``."""
        state = self._state
        if count_only:
            return await state.count_common_ids(key)
        await state.find_common_ids(key)
        await state.mail.run(state.keys.exchange(state.setup.peers, key), key, "exchanging public keys")
        aligned = await state.build()
        self._upper = await asyncio.to_thread(self._make_upper)
        if state.restored is not None:
            load(self._upper, under(_UPPER, state.restored.tensors))
        return aligned

    @model_arithmetic()
    def _make_upper(self) -> TopTrainer:
        state, dataset = self._state, self._state.dataset
        if dataset.labels is None:
            raise RuntimeError("an active party always has labels")
        train_labels = dataset.labels[dataset.rows_of(Split.TRAIN)]
        return TopTrainer.build(state.setup, train_labels, state.seed("upper"))

    async def begin(self, key: StepKey, gradient_receivers: frozenset[str]) -> None:
        """See ``RoleWorker``."""
        self._shape = self._state.interaction_shape(gradient_receivers)
        self._interaction = self._make_interaction(self._shape)
        if self._state.restored is not None:
            self._interaction.restore(interaction_weights(self._state.restored))
            return
        await self._state.mail.run(self._interaction.setup(), key, "initial interaction weights")

    def snapshot(self, step: int) -> Snapshot:
        """See ``RoleWorker``."""
        common = self._state.snapshot(step, self._interaction.shares())
        return Snapshot(step, {**common.tensors, **prefixed(_UPPER, self._upper.state())}, common.facts)

    def _make_interaction(self, shape: InteractionShape) -> ActiveInteraction:
        state = self._state
        parameters = state.setup.parameters
        generators = {name: state.generator("interaction", name) for name in shape.passive}
        if state.keys.secret is None:
            return PlaintextActive(shape, parameters, generators)
        return EncryptedActive(
            shape, parameters, generators, state.keys.secret, state.keys.peer_encryption, state.pools
        )

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """See ``RoleWorker``."""
        return await self._phases[phase](key, batch) or {}

    async def _bottom_forward(self, key: StepKey, batch: Batch) -> None:
        self._alpha = await asyncio.to_thread(self._state.alpha, key, batch)

    async def _interaction_forward(self, key: StepKey, batch: Batch) -> None:
        rows = len(self._state.dataset.batch_rows(batch))
        exchange = self._interaction.forward(key, rows)
        self._z = await self._state.mail.run(exchange, key, "the interaction's forward pass")

    async def _top(self, key: StepKey, batch: Batch) -> dict[str, float]:
        return await asyncio.to_thread(self._train_top, key, batch)

    def _train_top(self, key: StepKey, batch: Batch) -> dict[str, float]:
        """Loss of the batch, dL/dZ per sample in fixed point; dL/d alpha of the own bottom is kept."""
        parameters = self._state.setup.parameters
        loss, d_z_BK = self._upper.train(self._real_z(), self._alpha, self._labels(batch))
        generator = self._state.generator("rounding", key.step)
        self._d_z = quantize_gradient(d_z_BK, parameters, generator)
        return {"loss": loss}

    def _real_z(self) -> Tensor:
        z_BK, self._z = self._z, None
        if z_BK is None:
            raise RuntimeError("the top phase came before the interaction's forward phase")
        real = z_to_real(z_BK, self._state.setup.parameters)
        return torch.from_numpy(real).to(torch.float32)

    def _labels(self, batch: Batch) -> np.ndarray:
        labels = self._state.dataset.labels
        if labels is None:
            raise RuntimeError("an active party always has labels")
        return labels[self._state.dataset.batch_rows(batch)]

    async def _interaction_backward(self, key: StepKey, batch: Batch) -> None:
        d_z_BK, self._d_z = self._d_z, None
        if d_z_BK is None:
            raise RuntimeError("the interaction's backward phase came before the top phase")
        setup = self._state.setup
        multiplier = update_multiplier(setup.job.interaction.learning_rate, d_z_BK.shape[0], setup.parameters)
        rate, widths = setup.job.interaction.learning_rate, self._shape.widths.values()
        check_step(d_z_BK, rate, sum(widths), setup.parameters, trains=bool(self._shape.gradient_widths))
        exchange = self._interaction.backward(key, d_z_BK, multiplier)
        await self._state.mail.run(exchange, key, "the interaction's backward pass")

    async def _bottom_backward(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(self._update)

    def _update(self) -> None:
        if self._state.bottom is not None:
            self._state.bottom.backward(self._upper.d_alpha)
        self._upper.step()

    async def _score(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(lambda: self._upper.score(self._real_z(), self._alpha, self._labels(batch)))

    def ready(self, gradient_receivers: tuple[str, ...]) -> Ready:
        """See ``RoleWorker``."""
        return self._state.ready(gradient_receivers)

    def batch_rows(self, batch: Batch) -> int:
        """See ``RoleWorker``."""
        return self._state.batch_rows(batch)

    async def score(self) -> dict[str, float]:
        """See ``RoleWorker``."""
        return await asyncio.to_thread(self._upper.metrics)

    async def save(self, run: str) -> float:
        """See ``RoleWorker``."""
        await asyncio.to_thread(save_active, self._state, run, self._interaction.shares(), self._upper)
        return await asyncio.to_thread(certified_lipschitz, self._upper.top)
