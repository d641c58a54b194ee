"""The active party's side of the encrypted protocol: it holds one share V_i of every passive party's weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vfl.he.algebra import times_matrix
from vfl.he.ciphertexts import encrypt, from_wire, hide, seeded_from_wire, to_wire, uniform_mask
from vfl.he.keys import PublicKey, SecretKey, SeededCiphertexts
from vfl.he.layout import BackwardLayout, plan_product, product_layout, reduction_layout
from vfl.he.noise import product_hiding, reduction_hiding
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.exchange import Exchange, Send, check_shape, receive
from vfl.interact.fixed_point import IntArray, centre
from vfl.interact.layer import InteractionShape, initial_contribution
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradient,
    ForwardShare,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProducts,
    WeightShareOffer,
)
from vfl.randomness import uniform_ring


class EncryptedActive:
    """Active side.

    Args:
        key: this party's own key pair, for dL/dZ.
        peer_keys: public encryption key of each passive party.
        generators: training generator for the contribution to each passive party's initial weights.
    """

    def __init__(
        self,
        shape: InteractionShape,
        parameters: Parameters,
        generators: Mapping[str, np.random.Generator],
        key: SecretKey,
        peer_keys: Mapping[str, PublicKey],
    ) -> None:
        self._shape = shape
        self._parameters = parameters
        self._key = key
        self._peer_keys = peer_keys
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
            check_shape(offer.share_DK.shape, share.shape, name, "a share of initial weights")
            self._share_v[name] = centre(share - given_away + offer.share_DK, self._parameters.tau)

    def forward(self, key: StepKey, rows: int) -> Exchange[IntArray]:
        """F1 to F3: Z = sum_i (s_i - r_i)."""
        z_BK = np.zeros((rows, self._shape.out_width), dtype=np.int64)
        for name in self._shape.passive:
            activations = yield from receive(name, EncryptedActivations)
            product, mask_BK = self._masked_product(name, activations, rows)
            yield Send((name,), product)
            z_BK -= mask_BK
        for name in self._shape.passive:
            share = yield from receive(name, ForwardShare)
            check_shape(share.sh_z_BK.shape, z_BK.shape, name, "its share of Z")
            z_BK += share.sh_z_BK
        return centre(z_BK, self._parameters.tau)

    def _masked_product(
        self, name: str, activations: EncryptedActivations, rows: int
    ) -> tuple[MaskedActivationProduct, IntArray]:
        """F2: Enc_i(alpha_i) V_i + r_i, and r_i (B, K)."""
        p = self._parameters
        layout = plan_product(rows, self._shape.widths[name], self._shape.out_width, p.degree)
        ct_alpha = seeded_from_wire(
            p, activations.ct_alpha_CLN, activations.seeds_C, layout.source.ciphertexts, name, "encrypted activations"
        )
        ct_z = times_matrix(p, layout, ct_alpha, self._share_v[name])
        mask = uniform_mask(p, layout.product.ciphertexts)
        hidden = hide(p, self._peer_keys[name], ct_z, mask, product_hiding(p, layout))
        return MaskedActivationProduct(to_wire(hidden)), layout.product.unpack(mask)

    def backward(self, key: StepKey, d_z_BK: IntArray, multiplier: int) -> Exchange[None]:
        """B1 to B3: one encryption of dL/dZ for all; V_i -= m Dec(alpha_i^T Enc(delta) + phi_i)."""
        layout = self._shape.backward_layout(d_z_BK.shape[0], self._parameters)
        updated = dict(self._share_v)
        yield Send(self._shape.passive, self._encrypted_gradient(layout, d_z_BK))
        for name in self._shape.passive:
            products = yield from receive(name, MaskedGradientProducts)
            if name in self._shape.gradient_receivers and layout.rows is not None:
                masked = self._decrypted_d_alpha(name, layout.rows, products)
                sh_d_alpha_BD = centre(masked + d_z_BK @ self._share_v[name].T, self._parameters.tau)
                yield Send((name,), MaskedActivationGradient(sh_d_alpha_BD))
            step = multiplier * self._decrypted_d_w(name, layout.blocks, products)
            updated[name] = centre(updated[name] - step, self._parameters.tau)
        # All shares change together and last, so that a step that fails on the way leaves every share as it was.
        self._share_v = updated

    def _encrypted_gradient(self, layout: BackwardLayout, d_z_BK: IntArray) -> EncryptedGradient:
        rows = self._encrypted(layout.rows, d_z_BK)
        blocks = self._encrypted(None if layout.shared else layout.blocks, d_z_BK)
        return EncryptedGradient(to_wire(rows.first), rows.seeds, to_wire(blocks.first), blocks.seeds)

    def _encrypted(self, packing: RowPacking | None, d_z_BK: IntArray) -> SeededCiphertexts:
        coefficients = np.zeros((0, self._parameters.degree), dtype=np.int64)
        return encrypt(self._parameters, self._key, coefficients if packing is None else packing.pack(d_z_BK))

    def _decrypted_d_alpha(self, name: str, rows: RowPacking, products: MaskedGradientProducts) -> IntArray:
        """delta U_i^T + rho_i (B, D)."""
        p = self._parameters
        layout = product_layout(rows, self._shape.widths[name])
        level = product_hiding(p, layout).level
        hidden = from_wire(p, products.ct_d_alpha_C2LN, layout.product.ciphertexts, level, name, "masked d alpha")
        return layout.product.unpack(self._key.decrypt(hidden))

    def _decrypted_d_w(self, name: str, blocks: RowPacking, products: MaskedGradientProducts) -> IntArray:
        """alpha_i^T delta + phi_i (D, K)."""
        p = self._parameters
        layout = reduction_layout(blocks, self._shape.widths[name])
        level = reduction_hiding(p, layout).level
        hidden = from_wire(p, products.ct_d_w_C2LN, layout.product.ciphertexts, level, name, "a masked weight gradient")
        return layout.product.unpack(self._key.decrypt(hidden))

    def weights(self) -> dict[str, IntArray]:
        """The shares V_i."""
        return dict(self._share_v)
