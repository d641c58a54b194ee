"""A passive party's side of the encrypted protocol: it holds the other share U of its interaction weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.layout import BackwardLayout, product_layout, reduction_layout
from vfl.he.noise import Hiding, product_hiding, reduction_hiding
from vfl.he.packing import ReductionPacking, RowPacking
from vfl.he.parameters import Parameters
from vfl.he.pool import Pools
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import InteractionShape, initial_weights, restore_side, side_state
from vfl.interact.stream import Arriving, Evaluator, KeyOwner, Parts, slabs
from vfl.interact.weights import Kernel, WeightShare
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    ForwardShare,
    GradientCommitment,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
    WeightShareOffer,
)
from vfl.messages.exchange import Exchange, Send, check_share, receive
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.privacy.releases import Releases
from vfl.runtime.randomness import uniform_ring


class EncryptedPassive:
    """Passive side.

    Args:
        name: this party.
        generator: training generator for the initial weights.
        key: this party's own key pair, for its activations.
        active_key: public encryption key of the active party.
        masks: pairwise masks with the other passive parties.
        pools: hold material prepared in advance.
        releases: this side's noise on Z.
    """

    def __init__(
        self,
        name: str,
        shape: InteractionShape,
        parameters: Parameters,
        generator: np.random.Generator,
        key: SecretKey,
        active_key: PublicKey,
        masks: PairwiseMasks,
        pools: Pools,
        releases: Releases,
    ) -> None:
        self._name = name
        self._shape = shape
        self._parameters = parameters
        self._owner = KeyOwner(parameters, key, pools)
        self._evaluator = Evaluator(parameters, shape.active, active_key, pools)
        self._masks = masks
        self._width = shape.widths[name]
        self._trains = name in shape.gradient_receivers
        self._releases = releases
        self._weights = WeightShare(initial_weights(self._width, shape, parameters, generator), parameters.tau)

    def setup(self) -> Exchange[None]:
        """U = W - V, with V uniform."""
        # Their scale depends on widths that others state.
        self._releases.contributed(self._weights.value)
        given_away = uniform_ring(self._weights.value.shape, self._parameters.tau)
        yield Send((self._shape.active,), WeightShareOffer(given_away))
        self._weights.value = center(self._weights.value - given_away, self._parameters.tau)

    def forward(self, key: StepKey, alpha_q_BD: IntArray, labels: Sequence[bytes], columns: slice) -> Exchange[None]:
        """F1 to F3: s = Dec(F2) + alpha U + noise + pairwise masks."""
        p, active = self._parameters, self._shape.active
        count = columns.stop - columns.start
        layout = self._shape.forward_layout(self._name, alpha_q_BD.shape[0], count, p)
        self._owner.expect(layout.source.ciphertexts)
        # Everything is sent before the first reply is awaited.
        parts = Parts(layout.source.ciphertexts)
        yield from self._owner.send((active,), EncryptedActivations, layout.source.pack(alpha_q_BD), parts)
        bits = p.settings.activation_bits + p.settings.weight_bits
        sh_z_BK = alpha_q_BD @ self._weights.value[:, columns] + self._releases.noise(labels, count, bits)
        level = product_hiding(p, layout).level
        for run in slabs(layout):
            sh_z_BK[run.rows] += yield from self._owner.receive(
                active, MaskedActivationProduct, run.layout.product, level, run.parts
            )
        sh_z_BK += self._masks.total(key, ForwardShare.kind, sh_z_BK.shape)
        yield Send((active,), ForwardShare(center(sh_z_BK, p.tau)))

    def backward(self, key: StepKey, alpha_q_BD: IntArray, columns: slice) -> Exchange[IntArray | None]:
        """B1 to B3: this side's gradient is -mask_d_w; d alpha = B3 - mask_d_alpha."""
        p, active = self._parameters, self._shape.active
        layout = self._shape.backward_layout(alpha_q_BD.shape[0], columns.stop - columns.start, p)
        committed = (yield from receive(active, GradientCommitment)).digest.tobytes()
        lineage = self._releases.after_step(key, committed)
        arriving = self._arriving_gradient(layout)
        self._expect_products(layout)
        mask_d_alpha_BD = None
        if self._trains and layout.rows is not None:
            mask_d_alpha_BD = yield from self._masked_d_alpha(layout.rows, arriving[layout.rows], columns)
        mask_d_w_DK = yield from self._masked_d_w(layout.blocks, alpha_q_BD, arriving[layout.blocks])
        d_alpha_BD = None
        if mask_d_alpha_BD is not None:
            reply = yield from receive(active, MaskedActivationGradient)
            check_share(reply.sh_d_alpha_BD, alpha_q_BD.shape, p.tau, active, "a masked activation gradient")
            d_alpha_BD = center(reply.sh_d_alpha_BD - mask_d_alpha_BD, p.tau)
        # The share changes last, so a step that fails before leaves it unchanged.
        self._weights.accumulate(-mask_d_w_DK, alpha_q_BD.shape[0], columns)
        self._releases.contributed(alpha_q_BD)
        self._releases.move_to(lineage)
        return d_alpha_BD

    def step(self, kernel: Kernel) -> None:
        """See ``PassiveInteraction.step``."""
        self._weights.step(kernel)

    def _arriving_gradient(self, layout: BackwardLayout) -> dict[RowPacking, Arriving]:
        """B1: Enc(d_z) in each packing; one entry if one packing serves both products."""
        arriving = {layout.blocks: self._evaluator.arriving(EncryptedGradientBlocks, layout.blocks.ciphertexts)}
        if layout.rows is not None:
            arriving[layout.rows] = self._evaluator.arriving(EncryptedGradientRows, layout.rows.ciphertexts)
        return arriving

    def _expect_products(self, layout: BackwardLayout) -> None:
        p = self._parameters
        reduction = reduction_layout(layout.blocks, self._width)
        needs: list[tuple[Hiding, RowPacking | ReductionPacking]]
        needs = [(reduction_hiding(p, reduction), reduction.product)]
        if self._trains and layout.rows is not None:
            product = product_layout(layout.rows, self._width)
            needs.append((product_hiding(p, product), product.product))
        self._evaluator.expect(*needs)

    def _masked_d_alpha(self, rows: RowPacking, arriving: Arriving, columns: slice) -> Exchange[IntArray]:
        """B2: return Enc(d_z) U^T + mask_d_alpha; mask_d_alpha (B, D)."""
        p = self._parameters
        layout = product_layout(rows, self._width)
        hiding = product_hiding(p, layout)
        weights_KD = np.ascontiguousarray(self._weights.value[:, columns].T)
        mask_d_alpha_BD = np.empty((rows.rows, self._width), dtype=np.int64)
        for run in slabs(layout):
            product = times_matrix(p, run.layout, (yield from arriving.take(run.source)), weights_KD)
            mask_d_alpha_BD[run.rows] = yield from self._evaluator.send(
                MaskedGradientProduct, run.layout.product, product, hiding, run.parts
            )
        return mask_d_alpha_BD

    def _masked_d_w(self, blocks: RowPacking, alpha_q_BD: IntArray, arriving: Arriving) -> Exchange[IntArray]:
        """B2: return alpha^T Enc(d_z) + mask_d_w; mask_d_w (D, K)."""
        p = self._parameters
        layout = reduction_layout(blocks, self._width)
        hiding = reduction_hiding(p, layout)
        ct_d_z = yield from arriving.take(slice(0, blocks.ciphertexts))
        product = transposed_times(p, layout, alpha_q_BD, ct_d_z)
        parts = Parts(layout.product.ciphertexts)
        return (yield from self._evaluator.send(MaskedWeightGradient, layout.product, product, hiding, parts))

    def shares(self) -> dict[str, IntArray]:
        """The share U."""
        return {self._name: self._weights.value}

    def state(self) -> dict[str, IntArray]:
        """See ``PassiveInteraction.state``."""
        return side_state({self._name: self._weights}, self._releases)

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """See ``PassiveInteraction.restore``."""
        restore_side({self._name: self._weights}, self._releases, state)
