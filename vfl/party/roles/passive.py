"""The passive party's part of a job, phase by phase. Read it alongside ``active.py``."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import numpy.typing as npt

from vfl.checkpoints.store import Snapshot
from vfl.ids import Batch, CheckpointId, Phase, Split, StepKey
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import IntArray, d_alpha_to_real, quantize, quantize_activations
from vfl.interact.layer import InteractionShape, PassiveInteraction
from vfl.interact.plaintext import PlaintextPassive
from vfl.job.best_epoch import BestSoFar
from vfl.job.callbacks import Ready
from vfl.job.plan import EpochKind
from vfl.messages import Aligned
from vfl.party.learning.outputs.matched_noise import MatchedNoise, mixed_covariance
from vfl.party.learning.outputs.moments import OutputMoments
from vfl.party.learning.outputs.scale import OutputScale
from vfl.party.learning.snapshots import covariance_of, interaction_weights, with_covariance
from vfl.party.roles.best_pass import BestPass
from vfl.party.roles.common import PartyContext
from vfl.party.roles.saving import save_passive
from vfl.party.roles.worker import LoadedRows
from vfl.privacy.output_noise import LARGEST_DEVIATION
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.privacy.releases import Releases


class PassiveParty:
    """Features in, masked activations out; gradient in, bottom trained."""

    def __init__(self, state: PartyContext) -> None:
        self._state = state
        self._releases: Releases
        self._interaction: PassiveInteraction
        self._noise: MatchedNoise
        self._noise_of_all: MatchedNoise | None = None
        self._before_pass: npt.NDArray[np.float64] | None = None
        self._alpha: IntArray | None = None
        self._d_alpha: npt.NDArray[np.float64] | None = None
        self._phases: dict[Phase, Callable[[StepKey, Batch], Awaitable[None]]] = {
            Phase.BOTTOM_FORWARD: self._bottom_forward,
            Phase.INTERACTION_FORWARD: self._interaction_forward,
            Phase.INTERACTION_BACKWARD: self._interaction_backward,
            Phase.WEIGHT_STEP: self._weight_step,
            Phase.BOTTOM_BACKWARD: self._bottom_backward,
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
        if state.restored is not None:
            self._best.load_state(state.restored.tensors)
        return aligned

    async def begin(self, key: StepKey) -> None:
        """See ``RoleWorker``."""
        shape = self._state.interaction_shape()
        self._releases = self._state.releases(self._state.setup.job.privacy.z_noise)
        if self._state.setup.job.stagewise:
            await asyncio.to_thread(self._check_range)
        self._interaction = self._make_interaction(shape)
        if self._state.restored is not None:
            self._before_pass = covariance_of(self._state.restored)
            self._interaction.restore(interaction_weights(self._state.restored))
            return
        await self._state.mail.run(self._interaction.setup(), key, "initial interaction weights")

    def _check_range(self) -> None:
        """Check the range of Z by the outputs of a frozen bottom.

        Raises:
            RangeError: Z could leave its range unnoticed.
        """
        state, setup = self._state, self._state.setup
        training = state.moments(Split.TRAIN)
        every = training + state.moments(Split.VALIDATION, Split.TEST)
        noise = self._noise_of_all = self._matched(every.covariance)
        bound = setup.job.task.gradient_bound
        largest = every.largest_norm + noise.largest_norm(LARGEST_DEVIATION)
        scale = OutputScale.of(training, largest, setup.job.interaction_rate, bound)
        scale.check_range(setup.parameters.z_limit, len(setup.federation.passives), setup.job.relative_noise)

    def _matched(self, covariance_DD: npt.NDArray[np.float64]) -> MatchedNoise:
        job, settings = self._state.setup.job, self._state.setup.parameters.settings
        return MatchedNoise.fit(covariance_DD, job.relative_noise, 2.0**-settings.activation_bits)

    def snapshot(self, step: int) -> Snapshot:
        """See ``RoleWorker``."""
        snapshot = with_covariance(self._state.snapshot(step, self._interaction.state()), self._before_pass)
        return Snapshot(step, {**snapshot.tensors, **self._best.state()}, snapshot.facts)

    def _make_interaction(self, shape: InteractionShape) -> PassiveInteraction:
        state = self._state
        name, parameters = state.setup.name, state.setup.parameters
        generator = state.generator("interaction")
        secret = state.keys.secret
        if secret is None:
            return PlaintextPassive(name, shape, parameters, generator, self._releases)
        others = {peer: state.keys.shared[peer] for peer in shape.passive if peer != name}
        masks = PairwiseMasks(name, others, parameters.tau)
        active_key = state.keys.peer_encryption[shape.active]
        return EncryptedPassive(
            name, shape, parameters, generator, secret, active_key, masks, state.pools, self._releases
        )

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """See ``RoleWorker``. Only the active party has top and scoring phases."""
        if work := self._phases.get(phase):
            await work(key, batch)
        return {}

    async def _bottom_forward(self, key: StepKey, batch: Batch) -> None:
        self._alpha = await asyncio.to_thread(self._quantized_alpha, key, batch)

    def _quantized_alpha(self, key: StepKey, batch: Batch) -> IntArray:
        state = self._state
        changes = state.trains and state.dataset.plan.kind(batch) is EpochKind.JOINT
        # Before the forward pass, whose graph the backward pass needs.
        if changes and batch.index == 0 and state.setup.job.relative_noise:
            self._before_pass = state.moments(Split.TRAIN).covariance
        alpha_BD = state.alpha(key, batch)
        if alpha_BD is None:
            raise RuntimeError("the passive party has no bottom")
        # Where no gradient follows, equal outputs are rounded equally: releasing them again is a replay.
        generator = state.generator("rounding", key.step) if changes else None
        layer = f"the bottom model of {state.setup.name}"
        output_BD = alpha_BD.cpu().double().numpy()
        alpha_q_BD = quantize_activations(output_BD, state.setup.parameters, generator, layer)
        self._noise = self._noise_for(output_BD, changes=changes)
        self._releases.shaping = self._noise.digest
        return alpha_q_BD

    def _noise_for(self, alpha_BD: npt.NDArray[np.float64], *, changes: bool) -> MatchedNoise:
        """Noise for a batch with these outputs.

        Args:
            changes: the bottom trains on the batch, so that outputs for all rows are soon others.
        """
        if not self._state.setup.job.relative_noise:
            return self._matched(np.zeros((alpha_BD.shape[1], alpha_BD.shape[1])))
        if changes and self._before_pass is not None:
            self._noise_of_all = None
            batch = OutputMoments.of([alpha_BD], alpha_BD.shape[1])
            return self._matched(mixed_covariance(batch, self._before_pass))
        if self._noise_of_all is None:
            self._noise_of_all = self._matched(self._state.moments(*Split).covariance)
        return self._noise_of_all

    def _activations(self) -> IntArray:
        if self._alpha is None:
            raise RuntimeError("an interaction phase ran before the bottom's forward phase")
        return self._alpha

    async def _interaction_forward(self, key: StepKey, batch: Batch) -> None:
        alpha_BD, columns = self._activations(), self._state.dataset.plan.columns(batch)
        row_ids, active = self._state.row_ids(batch), self._state.setup.federation.active.name
        labels = await asyncio.to_thread(self._releases.labels, active, row_ids, alpha_BD, columns)
        charge = self._state.disclosure.of_outputs
        await asyncio.to_thread(charge, self._releases, key.run, batch.split, row_ids, labels, columns)
        released_BD = await asyncio.to_thread(self._with_noise, alpha_BD, labels)
        exchange = self._interaction.forward(key, released_BD, labels, columns)
        await self._state.mail.run(exchange, key, "the interaction's forward pass")

    def _with_noise(self, alpha_q_BD: IntArray, labels: Sequence[bytes]) -> IntArray:
        """What a release is made of in place of alpha."""
        if not self._state.setup.job.relative_noise:
            return alpha_q_BD
        noise_BD = self._noise.of(self._releases.operand_noise(labels, alpha_q_BD.shape[1]))
        return alpha_q_BD + quantize(noise_BD, self._state.setup.parameters.settings.activation_bits, None)

    async def _interaction_backward(self, key: StepKey, batch: Batch) -> None:
        setup, alpha_BD = self._state.setup, self._activations()
        self._alpha = None
        exchange = self._interaction.backward(key, alpha_BD, self._state.dataset.plan.columns(batch))
        d_alpha_BD = await self._state.mail.run(exchange, key, "the interaction's backward pass")
        if d_alpha_BD is not None:
            layer = f"the bottom model of {setup.name}"
            # Gradients cross per sample; the bottom trains on the mean loss.
            self._d_alpha = d_alpha_to_real(d_alpha_BD, setup.parameters, layer) / alpha_BD.shape[0]

    async def _weight_step(self, key: StepKey, batch: Batch) -> None:
        await asyncio.to_thread(self._interaction.step, self._state.kernel(batch))

    async def _bottom_backward(self, key: StepKey, batch: Batch) -> None:
        d_alpha_BD, self._d_alpha = self._d_alpha, None
        if self._state.bottom is not None:
            await asyncio.to_thread(self._state.bottom.backward, d_alpha_BD)

    async def _mark_best(self, key: StepKey, batch: Batch) -> None:
        self._best.mark(batch.epoch, self.snapshot(key.step))

    async def _restore_best(self, key: StepKey, batch: Batch) -> None:
        await self._best.restore(self._interaction, key)
        self._noise_of_all = None  # it follows the outputs of the bottom

    def ready(self) -> Ready:
        """See ``RoleWorker``."""
        return self._state.ready()

    def batch_rows(self, batch: Batch) -> int:
        """See ``RoleWorker``."""
        return self._state.batch_rows(batch)

    async def score(self, batch: Batch) -> dict[str, float]:
        """A passive party has no labels and publishes nothing."""
        return {}

    async def save(self, run: str) -> float:
        """See ``RoleWorker``."""
        await asyncio.to_thread(save_passive, self._state, run, self._interaction.shares())
        return 0.0
