"""Runs one step between an active and a passive party and gives each key owner's view of what came back to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from support.attacks.linear_attacks import ReturnedProduct
from support.attacks.weakened import unused_coefficients
from support.layers.exchanges import Transcript
from support.layers.interaction import PARAMETERS, Layer, encrypted_layer, make_shape
from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.ciphertexts import from_wire, seeded_from_wire
from vfl.he.layout import product_layout, reduction_layout
from vfl.he.packing import ReductionPacking, RowPacking
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    FreshCiphertexts,
    HiddenCiphertexts,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
)

ROWS, WIDTH, OUT_WIDTH, PASSIVE = 4, 3, 2, "telco"
Weakening = Callable[[pytest.MonkeyPatch], None]


@dataclass
class Target:
    """What a key owner is after, and what it has to find it."""

    view: ReturnedProduct
    factor: np.ndarray


def run_step(*changes: Weakening) -> dict[str, Target]:
    """One step on a build with these changes; the targets "V" (of the passive party), "U" and "alpha" (of the active).

    Every other secret, masks included, is fresh; only activations and gradients are seeded.
    """
    rng = np.random.default_rng(5)
    alpha_BD = rng.integers(-1024, 1025, (ROWS, WIDTH))
    d_z_BK = rng.integers(-4096, 4097, (ROWS, OUT_WIDTH))
    with pytest.MonkeyPatch.context() as patch:
        for change in changes:
            change(patch)
        layer, transcript = encrypted_layer(make_shape({PASSIVE: WIDTH}, OUT_WIDTH)), Transcript()
        layer.setup()
        share_v = layer.active.shares()[PASSIVE]
        share_u = layer.passive[PASSIVE].shares()[PASSIVE]
        layer.forward(0, {PASSIVE: alpha_BD}, transcript)
        layer.backward(0, d_z_BK, 3, transcript)
        return {
            "V": Target(_activation_view(layer, transcript, alpha_BD), share_v),
            "U": Target(_gradient_view(layer, transcript, d_z_BK), np.ascontiguousarray(share_u.T)),
            "alpha": Target(_reduction_view(layer, transcript, d_z_BK), alpha_BD),
        }


def _activation_view(layer: Layer, transcript: Transcript, alpha_BD: np.ndarray) -> ReturnedProduct:
    layout = layer.shape.forward_layout(PASSIVE, ROWS, OUT_WIDTH, PARAMETERS)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys[PASSIVE],
        sent=_sent(transcript, EncryptedActivations),
        plaintext=layout.source.pack(alpha_BD),
        **_returned(transcript, MaskedActivationProduct, layout.product),
        product=lambda factor, ct: times_matrix(PARAMETERS, layout, ct, factor),
        factor_shape=(WIDTH, OUT_WIDTH),
    )


def _gradient_view(layer: Layer, transcript: Transcript, d_z_BK: np.ndarray) -> ReturnedProduct:
    backward = layer.shape.backward_layout(ROWS, OUT_WIDTH, PARAMETERS)
    layout = product_layout(backward.rows, WIDTH)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys["active"],
        sent=_sent(transcript, EncryptedGradientRows),
        plaintext=layout.source.pack(d_z_BK),
        **_returned(transcript, MaskedGradientProduct, layout.product),
        product=lambda factor, ct: times_matrix(PARAMETERS, layout, ct, factor),
        factor_shape=(OUT_WIDTH, WIDTH),
    )


def _reduction_view(layer: Layer, transcript: Transcript, d_z_BK: np.ndarray) -> ReturnedProduct:
    backward = layer.shape.backward_layout(ROWS, OUT_WIDTH, PARAMETERS)
    layout = reduction_layout(backward.blocks, WIDTH)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys["active"],
        sent=_sent(transcript, EncryptedGradientRows if backward.shared else EncryptedGradientBlocks),
        plaintext=layout.source.pack(d_z_BK),
        **_returned(transcript, MaskedWeightGradient, layout.product),
        product=lambda factor, ct: transposed_times(PARAMETERS, layout, factor, ct),
        factor_shape=(ROWS, WIDTH),
    )


def _sent(transcript: Transcript, kind: type[FreshCiphertexts]) -> torch.Tensor:
    """Fresh ciphertexts (C, 2, L, N) of a kind, of all its messages."""
    parts = []
    for message in transcript.of_kind(kind):
        count = message.seeds_C.shape[0]
        parts.append(seeded_from_wire(PARAMETERS, message.ct_first_CLW, message.seeds_C, count, "sender", "it"))
    return torch.cat(parts)


def _returned(
    transcript: Transcript, kind: type[HiddenCiphertexts], packing: RowPacking | ReductionPacking
) -> dict[str, Any]:
    """What came back of a kind, in all its messages: the fields of ``ReturnedProduct`` that tell of it."""
    whole = torch.cat([returned_ciphertexts(message, packing) for message in transcript.of_kind(kind)])
    known = np.zeros(PARAMETERS.degree, dtype=bool)
    known[packing.positions] = True
    return {"returned": whole, "known": known, "unused": unused_coefficients(packing)}


def returned_ciphertexts(message: HiddenCiphertexts, packing: RowPacking | ReductionPacking) -> torch.Tensor:
    """Hidden ciphertexts (C, 2, level, N), c0 zero where nothing was sent."""
    count, level, _ = message.ct_second_CLW.shape
    where = torch.from_numpy(packing.positions)
    whole = torch.zeros((count, 2, level, PARAMETERS.degree), dtype=torch.int64)
    first = from_wire(PARAMETERS, message.ct_first_CLW, (count, level, len(where)), "sender", "it")
    whole[:, 0, :, where] = first
    whole[:, 1] = from_wire(PARAMETERS, message.ct_second_CLW, (count, level, PARAMETERS.degree), "sender", "it")
    return whole
