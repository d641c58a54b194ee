"""A passive party's side of the encrypted protocol: it holds the other share U of its interaction weights."""

from __future__ import annotations

from collections.abc import Mapping

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
from vfl.interact.layer import InteractionShape, initial_contribution, pending, restored
from vfl.interact.stream import Arriving, Evaluator, KeyOwner, Parts, slabs
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    ForwardShare,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
    WeightShareOffer,
)
from vfl.messages.exchange import Exchange, Send, check_share, receive
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.runtime.randomness import uniform_ring


class EncryptedPassive:
    """Passive side.

    Args:
        name: this party.
        generator: training generator for the contribution to the initial weights.
        key: this party's own key pair, for its activations.
        active_key: public encryption key of the active party.
        masks: pairwise masks with the other passive parties.
        pools: hold material prepared in advance.
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
    ) -> None:
        self._name = name
        self._shape = shape
        self._parameters = parameters
        self._owner = KeyOwner(parameters, key, pools)
        self._evaluator = Evaluator(parameters, shape.active, active_key, pools)
        self._masks = masks
        self._width = shape.widths[name]
        self._trains = name in shape.gradient_receivers
        self._share_u = initial_contribution(self._width, shape, parameters, generator)
        self._alpha: IntArray | None = None

    def setup(self) -> Exchange[None]:
        """U = R_P - V_P + U_A, where each side keeps its contribution R minus a uniform part it sends away."""
        active = self._shape.active
        given_away = uniform_ring(self._share_u.shape, self._parameters.tau)
        yield Send((active,), WeightShareOffer(given_away))
        offer = yield from receive(active, WeightShareOffer)
        check_share(offer.share_DK, self._share_u.shape, self._parameters.tau, active, "a share of initial weights")
        self._share_u = center(self._share_u - given_away + offer.share_DK, self._parameters.tau)

    def forward(self, key: StepKey, alpha_q_BD: IntArray) -> Exchange[None]:
        """F1 to F3: s = Dec(F2) + alpha U + pairwise masks."""
        p, active = self._parameters, self._shape.active
        layout = self._shape.forward_layout(self._name, alpha_q_BD.shape[0], p)
        self._owner.expect(layout.source.ciphertexts)
        # Everything is sent before the first reply is awaited.
        parts = Parts(layout.source.ciphertexts)
        yield from self._owner.send((active,), EncryptedActivations, layout.source.pack(alpha_q_BD), parts)
        sh_z_BK = alpha_q_BD @ self._share_u
        level = product_hiding(p, layout).level
        for run in slabs(layout):
            sh_z_BK[run.rows] += yield from self._owner.receive(
                active, MaskedActivationProduct, run.layout.product, level, run.parts
            )
        sh_z_BK += self._masks.total(key, ForwardShare.kind, sh_z_BK.shape)
        yield Send((active,), ForwardShare(center(sh_z_BK, p.tau)))
        self._alpha = alpha_q_BD

    def backward(self, key: StepKey, multiplier: int) -> Exchange[IntArray | None]:
        """B1 to B3: U -= m (-mask_d_w); d alpha = B3 - mask_d_alpha."""
        p, active = self._parameters, self._shape.active
        alpha_q_BD = pending(self._alpha, key)
        self._alpha = None
        layout = self._shape.backward_layout(alpha_q_BD.shape[0], p)
        arriving = self._arriving_gradient(layout)
        self._expect_products(layout)
        mask_d_alpha_BD = None
        if self._trains and layout.rows is not None:
            mask_d_alpha_BD = yield from self._masked_d_alpha(layout.rows, arriving[layout.rows])
        mask_d_w_DK = yield from self._masked_d_w(layout.blocks, alpha_q_BD, arriving[layout.blocks])
        d_alpha_BD = None
        if mask_d_alpha_BD is not None:
            reply = yield from receive(active, MaskedActivationGradient)
            check_share(reply.sh_d_alpha_BD, alpha_q_BD.shape, p.tau, active, "a masked activation gradient")
            d_alpha_BD = center(reply.sh_d_alpha_BD - mask_d_alpha_BD, p.tau)
        # The share changes last, so a step that fails earlier leaves it unchanged.
        self._share_u = center(self._share_u + multiplier * mask_d_w_DK, p.tau)
        return d_alpha_BD

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

    def _masked_d_alpha(self, rows: RowPacking, arriving: Arriving) -> Exchange[IntArray]:
        """B2: return Enc(d_z) U^T + mask_d_alpha; mask_d_alpha (B, D)."""
        p = self._parameters
        layout = product_layout(rows, self._width)
        hiding = product_hiding(p, layout)
        weights_KD = np.ascontiguousarray(self._share_u.T)
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
        return {self._name: self._share_u}

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """See ``PassiveInteraction.restore``."""
        self._share_u = restored(self.shares(), held)[self._name]
