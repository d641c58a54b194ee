"""A passive party's side of the encrypted protocol: it holds the other share U of its interaction weights."""

from __future__ import annotations

import numpy as np
import torch

from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.ciphertexts import encrypt, from_wire, hide, seeded_from_wire, to_wire, uniform_mask
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.layout import BackwardLayout, plan_product, product_layout, reduction_layout
from vfl.he.noise import product_hiding, reduction_hiding
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.exchange import Exchange, Send, check_shape, receive
from vfl.interact.fixed_point import IntArray, centre
from vfl.interact.layer import InteractionShape, initial_contribution, pending
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradient,
    ForwardShare,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProducts,
    WeightShareOffer,
)
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.randomness import uniform_ring


class EncryptedPassive:
    """Passive side.

    Args:
        name: this party.
        generator: training generator for the contribution to the initial weights.
        key: this party's own key pair, for its activations.
        active_key: public encryption key of the active party.
        masks: pairwise masks with the other passive parties.
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
    ) -> None:
        self._name = name
        self._shape = shape
        self._parameters = parameters
        self._key = key
        self._active_key = active_key
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
        check_shape(offer.share_DK.shape, self._share_u.shape, active, "a share of initial weights")
        self._share_u = centre(self._share_u - given_away + offer.share_DK, self._parameters.tau)

    def forward(self, key: StepKey, alpha_BD: IntArray) -> Exchange[None]:
        """F1 to F3: s = Dec(F2) + alpha U + pairwise masks."""
        p, active = self._parameters, self._shape.active
        layout = plan_product(alpha_BD.shape[0], self._width, self._shape.out_width, p.degree)
        ct_alpha = encrypt(p, self._key, layout.source.pack(alpha_BD))
        yield Send((active,), EncryptedActivations(to_wire(ct_alpha.first), ct_alpha.seeds))
        reply = yield from receive(active, MaskedActivationProduct)
        level = product_hiding(p, layout).level
        hidden = from_wire(p, reply.ct_z_C2LN, layout.product.ciphertexts, level, active, "a masked activation product")
        sh_z_BK = layout.product.unpack(self._key.decrypt(hidden)) + alpha_BD @ self._share_u
        sh_z_BK += self._masks.total(key, ForwardShare.kind, sh_z_BK.shape)
        yield Send((active,), ForwardShare(centre(sh_z_BK, p.tau)))
        self._alpha = alpha_BD

    def backward(self, key: StepKey, multiplier: int) -> Exchange[IntArray | None]:
        """B1 to B3: U -= m (-phi); d alpha = B3 - rho."""
        p, active = self._parameters, self._shape.active
        alpha_BD = pending(self._alpha, key)
        self._alpha = None
        gradient = yield from receive(active, EncryptedGradient)
        layout = self._shape.backward_layout(alpha_BD.shape[0], p)
        ct_rows, ct_blocks = self._gradient_ciphertexts(layout, gradient)
        ct_d_alpha, rho_BD = self._masked_d_alpha(layout.rows, ct_rows)
        ct_d_w, phi_DK = self._masked_d_w(layout.blocks, alpha_BD, ct_blocks)
        yield Send((active,), MaskedGradientProducts(to_wire(ct_d_alpha), to_wire(ct_d_w)))
        d_alpha_BD = None
        if self._trains:
            reply = yield from receive(active, MaskedActivationGradient)
            check_shape(reply.sh_d_alpha_BD.shape, alpha_BD.shape, active, "a masked activation gradient")
            d_alpha_BD = centre(reply.sh_d_alpha_BD - rho_BD, p.tau)
        # The share changes last, so that a step that fails on the way leaves it as it was.
        self._share_u = centre(self._share_u + multiplier * phi_DK, p.tau)
        return d_alpha_BD

    def _gradient_ciphertexts(
        self, layout: BackwardLayout, gradient: EncryptedGradient
    ) -> tuple[torch.Tensor, torch.Tensor]:
        p = self._parameters
        counts = (
            0 if layout.rows is None else layout.rows.ciphertexts,
            0 if layout.shared else layout.blocks.ciphertexts,
        )
        by_rows, by_blocks = (
            seeded_from_wire(p, words, seeds, count, self._shape.active, "an encrypted gradient")
            for words, seeds, count in (
                (gradient.ct_by_rows_CLN, gradient.seeds_by_rows_C, counts[0]),
                (gradient.ct_by_blocks_CLN, gradient.seeds_by_blocks_C, counts[1]),
            )
        )
        return by_rows, by_rows if layout.shared else by_blocks

    def _masked_d_alpha(self, rows: RowPacking | None, ct_d_z: torch.Tensor) -> tuple[torch.Tensor, IntArray]:
        """Enc(delta) U^T + rho and rho (B, D); nothing when this party's bottom is frozen."""
        p = self._parameters
        if not self._trains or rows is None:
            return ct_d_z[:0], np.zeros((0, self._width), dtype=np.int64)
        layout = product_layout(rows, self._width)
        product = times_matrix(p, layout, ct_d_z, np.ascontiguousarray(self._share_u.T))
        mask = uniform_mask(p, layout.product.ciphertexts)
        hidden = hide(p, self._active_key, product, mask, product_hiding(p, layout))
        return hidden, layout.product.unpack(mask)

    def _masked_d_w(
        self, blocks: RowPacking, alpha_BD: IntArray, ct_d_z: torch.Tensor
    ) -> tuple[torch.Tensor, IntArray]:
        """alpha^T Enc(delta) + phi and phi (D, K)."""
        p = self._parameters
        layout = reduction_layout(blocks, self._width)
        product = transposed_times(p, layout, alpha_BD, ct_d_z)
        mask = uniform_mask(p, layout.product.ciphertexts)
        hidden = hide(p, self._active_key, product, mask, reduction_hiding(p, layout))
        return hidden, layout.product.unpack(mask)

    def weights(self) -> dict[str, IntArray]:
        """The share U."""
        return {self._name: self._share_u}
