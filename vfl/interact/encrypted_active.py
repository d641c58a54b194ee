"""The active party's side of the encrypted protocol: it holds one share V_i of every passive party's weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vfl.he.algebra import times_matrix
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.layout import BackwardLayout, product_layout, reduction_layout
from vfl.he.noise import product_hiding, reduction_hiding
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters
from vfl.he.pool import Pools
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import InteractionShape, initial_contribution, restored
from vfl.interact.stream import Evaluator, KeyOwner, Parts, slabs
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
from vfl.runtime.randomness import uniform_ring


class EncryptedActive:
    """Active side.

    Args:
        key: this party's own key pair, for dL/dZ.
        peer_keys: public encryption key of each passive party.
        generators: training generator for the contribution to each passive party's initial weights.
        pools: hold material prepared in advance.
    """

    def __init__(
        self,
        shape: InteractionShape,
        parameters: Parameters,
        generators: Mapping[str, np.random.Generator],
        key: SecretKey,
        peer_keys: Mapping[str, PublicKey],
        pools: Pools,
    ) -> None:
        self._shape = shape
        self._parameters = parameters
        self._owner = KeyOwner(parameters, key, pools)
        self._evaluators = {name: Evaluator(parameters, name, peer_keys[name], pools) for name in shape.passive}
        self._share_v = {
            name: initial_contribution(width, shape, parameters, generators[name])
            for name, width in shape.widths.items()
        }

    def setup(self) -> Exchange[None]:
        """V = R_A - U_A + V_P, where each side keeps its contribution R minus a uniform part it sends away."""
        for name, share in self._share_v.items():
            given_away = uniform_ring(share.shape, self._parameters.tau)
            yield Send((name,), WeightShareOffer(given_away))
            offer = yield from receive(name, WeightShareOffer)
            check_share(offer.share_DK, share.shape, self._parameters.tau, name, "a share of initial weights")
            self._share_v[name] = center(share - given_away + offer.share_DK, self._parameters.tau)

    def forward(self, key: StepKey, rows: int) -> Exchange[IntArray]:
        """F1 to F3: Z = sum_i (s_i - r_i)."""
        z_BK = np.zeros((rows, self._shape.out_width), dtype=np.int64)
        for name in self._shape.passive:
            z_BK -= yield from self._masked_product(name, rows)
        for name in self._shape.passive:
            share = yield from receive(name, ForwardShare)
            check_share(share.sh_z_BK, z_BK.shape, self._parameters.tau, name, "its share of Z")
            z_BK += share.sh_z_BK
        return center(z_BK, self._parameters.tau)

    def _masked_product(self, name: str, rows: int) -> Exchange[IntArray]:
        """F1, F2: take Enc_i(alpha_i), return Enc_i(alpha_i) V_i + r_i; r_i (B, K)."""
        p, evaluator = self._parameters, self._evaluators[name]
        layout = self._shape.forward_layout(name, rows, p)
        hiding = product_hiding(p, layout)
        evaluator.expect((hiding, layout.product))
        mask_z_BK = np.empty((rows, self._shape.out_width), dtype=np.int64)
        arriving = evaluator.arriving(EncryptedActivations, layout.source.ciphertexts)
        for run in slabs(layout):
            ct_alpha = yield from arriving.take(run.source)
            ct_z = times_matrix(p, run.layout, ct_alpha, self._share_v[name])
            mask_z_BK[run.rows] = yield from evaluator.send(
                MaskedActivationProduct, run.layout.product, ct_z, hiding, run.parts
            )
        return mask_z_BK

    def backward(self, key: StepKey, d_z_BK: IntArray, multiplier: int) -> Exchange[None]:
        """B1 to B3: one encryption of dL/dZ for all; V_i -= m Dec(alpha_i^T Enc(d_z) + mask_d_w_i)."""
        layout = self._shape.backward_layout(d_z_BK.shape[0], self._parameters)
        updated = dict(self._share_v)
        yield from self._send_gradient(layout, d_z_BK)
        for name in self._shape.passive:
            if name in self._shape.gradient_receivers and layout.rows is not None:
                masked_BD = yield from self._masked_d_alpha(name, layout.rows)
                sh_d_alpha_BD = center(masked_BD + d_z_BK @ self._share_v[name].T, self._parameters.tau)
                yield Send((name,), MaskedActivationGradient(sh_d_alpha_BD))
        for name in self._shape.passive:
            step_DK = multiplier * (yield from self._masked_d_w(name, layout.blocks))
            updated[name] = center(updated[name] - step_DK, self._parameters.tau)
        # All shares change together at the end, so a step that fails earlier leaves every share unchanged.
        self._share_v = updated

    def _send_gradient(self, layout: BackwardLayout, d_z_BK: IntArray) -> Exchange[None]:
        """B1: Enc(d_z), the packing for d_z U^T first: it starts the longest computation at a party."""
        rows, blocks = layout.rows, None if layout.shared else layout.blocks
        self._owner.expect(sum(packing.ciphertexts for packing in (rows, blocks) if packing is not None))
        if rows is not None:
            to = self._shape.passive if layout.shared else tuple(sorted(self._shape.gradient_receivers))
            parts = Parts(rows.ciphertexts)
            yield from self._owner.send(to, EncryptedGradientRows, rows.pack(d_z_BK), parts)
        if blocks is not None:
            parts = Parts(blocks.ciphertexts)
            yield from self._owner.send(self._shape.passive, EncryptedGradientBlocks, blocks.pack(d_z_BK), parts)

    def _masked_d_alpha(self, name: str, rows: RowPacking) -> Exchange[IntArray]:
        """B2: d_z U_i^T + mask_d_alpha_i (B, D)."""
        p = self._parameters
        layout = product_layout(rows, self._shape.widths[name])
        level = product_hiding(p, layout).level
        masked_BD = np.empty((rows.rows, self._shape.widths[name]), dtype=np.int64)
        for run in slabs(layout):
            masked_BD[run.rows] = yield from self._owner.receive(
                name, MaskedGradientProduct, run.layout.product, level, run.parts
            )
        return masked_BD

    def _masked_d_w(self, name: str, blocks: RowPacking) -> Exchange[IntArray]:
        """B2: alpha_i^T d_z + mask_d_w_i (D, K)."""
        layout = reduction_layout(blocks, self._shape.widths[name])
        level = reduction_hiding(self._parameters, layout).level
        parts = Parts(layout.product.ciphertexts)
        return (yield from self._owner.receive(name, MaskedWeightGradient, layout.product, level, parts))

    def shares(self) -> dict[str, IntArray]:
        """The shares V_i."""
        return dict(self._share_v)

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """See ``ActiveInteraction.restore``."""
        self._share_v = restored(self._share_v, held)
