"""The active party's side of the encrypted protocol: it holds one share V_i of every passive party's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
from vfl.interact.layer import InteractionShape, restore_side, side_state
from vfl.interact.stream import Evaluator, KeyOwner, Parts, slabs
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
from vfl.privacy.releases import Releases


class EncryptedActive:
    """Active side.

    Args:
        key: this party's own key pair, for dL/dZ.
        peer_keys: public encryption key of each passive party.
        pools: hold material prepared in advance.
        releases: this side's noise on d alpha.
    """

    def __init__(
        self,
        shape: InteractionShape,
        parameters: Parameters,
        key: SecretKey,
        peer_keys: Mapping[str, PublicKey],
        pools: Pools,
        releases: Releases,
    ) -> None:
        self._shape = shape
        self._parameters = parameters
        self._owner = KeyOwner(parameters, key, pools)
        self._evaluators = {name: Evaluator(parameters, name, peer_keys[name], pools) for name in shape.passive}
        self._releases = releases
        self._weights = {
            name: WeightShare(np.zeros((width, shape.out_width), dtype=np.int64), parameters.tau)
            for name, width in shape.widths.items()
        }

    def setup(self) -> Exchange[None]:
        """V = what the passive party gives away of the initial weights, which it chose: uniform."""
        for name, weights in self._weights.items():
            offer = yield from receive(name, WeightShareOffer)
            check_share(offer.share_DK, weights.value.shape, self._parameters.tau, name, "a share of initial weights")
            weights.value = offer.share_DK

    def forward(self, key: StepKey, rows: int, columns: slice) -> Exchange[IntArray]:
        """F1 to F3: Z = sum_i (s_i - r_i), with the noise of every passive party."""
        z_BK = np.zeros((rows, columns.stop - columns.start), dtype=np.int64)
        for name in self._shape.passive:
            z_BK -= yield from self._masked_product(name, rows, columns)
        for name in self._shape.passive:
            share = yield from receive(name, ForwardShare)
            check_share(share.sh_z_BK, z_BK.shape, self._parameters.tau, name, "its share of Z")
            z_BK += share.sh_z_BK
        return center(z_BK, self._parameters.tau)

    def _masked_product(self, name: str, rows: int, columns: slice) -> Exchange[IntArray]:
        """F1, F2: take Enc_i(alpha_i), return Enc_i(alpha_i) V_i + r_i; r_i (B, K)."""
        p, evaluator = self._parameters, self._evaluators[name]
        count = columns.stop - columns.start
        layout = self._shape.forward_layout(name, rows, count, p)
        hiding = product_hiding(p, layout)
        evaluator.expect((hiding, layout.product))
        mask_z_BK = np.empty((rows, count), dtype=np.int64)
        weights_DK = np.ascontiguousarray(self._weights[name].value[:, columns])
        arriving = evaluator.arriving(EncryptedActivations, layout.source.ciphertexts)
        for run in slabs(layout):
            ct_alpha = yield from arriving.take(run.source)
            ct_z = times_matrix(p, run.layout, ct_alpha, weights_DK)
            mask_z_BK[run.rows] = yield from evaluator.send(
                MaskedActivationProduct, run.layout.product, ct_z, hiding, run.parts
            )
        return mask_z_BK

    def backward(
        self, key: StepKey, d_z_BM: IntArray, labels: Mapping[str, Sequence[bytes]], columns: slice
    ) -> Exchange[None]:
        """B1 to B3: one encryption of dL/dZ for all; this side's gradient is Dec(alpha_i^T Enc(d_z) + mask_d_w_i)."""
        rows, count = d_z_BM.shape
        layout = self._shape.backward_layout(rows, count, self._parameters)
        committed = self._releases.commit(key, d_z_BM)
        yield Send(self._shape.passive, GradientCommitment(np.frombuffer(committed, dtype=np.uint8)))
        yield from self._send_gradient(layout, d_z_BM)
        for name in self._shape.passive:
            if name in self._shape.gradient_receivers and layout.rows is not None:
                yield from self._give_d_alpha(name, layout.rows, d_z_BM, labels[name], columns)
        gradients = {}
        for name in self._shape.passive:
            gradients[name] = yield from self._masked_d_w(name, layout.blocks)
        # All shares change together at the end, so a step that fails before leaves every share unchanged.
        for name, gradient_DM in gradients.items():
            self._weights[name].accumulate(gradient_DM, rows, columns)
        self._releases.move_to(self._releases.after_step(key, committed))

    def step(self, kernel: Kernel) -> None:
        """See ``ActiveInteraction.step``."""
        for weights in self._weights.values():
            weights.step(kernel)

    def _give_d_alpha(
        self, name: str, rows: RowPacking, d_z_BM: IntArray, labels: Sequence[bytes], columns: slice
    ) -> Exchange[None]:
        """B3: Dec(d_z U_i^T + mask) + d_z V_i^T + noise."""
        p = self._parameters
        masked_BD = yield from self._masked_d_alpha(name, rows)
        bits = p.settings.gradient_bits + p.settings.weight_bits
        noise_BD = self._releases.noise(labels, masked_BD.shape[1], bits)
        exact_BD = masked_BD + d_z_BM @ self._weights[name].value[:, columns].T
        yield Send((name,), MaskedActivationGradient(center(exact_BD + noise_BD, p.tau)))

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
        return {name: weights.value for name, weights in self._weights.items()}

    def state(self) -> dict[str, IntArray]:
        """See ``ActiveInteraction.state``."""
        return side_state(self._weights, self._releases)

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """See ``ActiveInteraction.restore``."""
        restore_side(self._weights, self._releases, state)
