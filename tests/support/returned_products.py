"""Runs one step between an active and a passive party and gives each key owner's view of what came back to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from support.exchanges import Transcript
from support.interaction import PARAMETERS, Layer, encrypted_layer, make_shape
from support.linear_attacks import ReturnedProduct
from support.weakened import unused_coefficients
from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.keys import SeededCiphertexts
from vfl.he.layout import plan_backward, plan_product, product_layout, reduction_layout
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradient,
    MaskedActivationProduct,
    MaskedGradientProducts,
    Message,
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
        share_v = layer.active.weights()[PASSIVE]
        share_u = layer.passive[PASSIVE].weights()[PASSIVE]
        layer.forward(0, {PASSIVE: alpha_BD}, transcript)
        layer.backward(0, d_z_BK, 3, transcript)
    return {
        "V": Target(_activation_view(layer, transcript, alpha_BD), share_v),
        "U": Target(_gradient_view(layer, transcript, d_z_BK), np.ascontiguousarray(share_u.T)),
        "alpha": Target(_reduction_view(layer, transcript, d_z_BK), alpha_BD),
    }


def _activation_view(layer: Layer, transcript: Transcript, alpha_BD: np.ndarray) -> ReturnedProduct:
    layout = plan_product(ROWS, WIDTH, OUT_WIDTH, PARAMETERS.degree)
    sent = _message(transcript, EncryptedActivations)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys[PASSIVE],
        sent=_expanded(sent.ct_alpha_CLN, sent.seeds_C),
        plaintext=layout.source.pack(alpha_BD),
        returned=_ciphertexts(_message(transcript, MaskedActivationProduct).ct_z_C2LN),
        product=lambda factor, ct: times_matrix(PARAMETERS, layout, ct, factor),
        factor_shape=(WIDTH, OUT_WIDTH),
        unused=unused_coefficients(layout.product),
    )


def _gradient_view(layer: Layer, transcript: Transcript, d_z_BK: np.ndarray) -> ReturnedProduct:
    backward = plan_backward(ROWS, OUT_WIDTH, (WIDTH,), (WIDTH,), PARAMETERS.degree)
    layout = product_layout(backward.rows, WIDTH)
    sent = _message(transcript, EncryptedGradient)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys["active"],
        sent=_expanded(sent.ct_by_rows_CLN, sent.seeds_by_rows_C),
        plaintext=layout.source.pack(d_z_BK),
        returned=_ciphertexts(_message(transcript, MaskedGradientProducts).ct_d_alpha_C2LN),
        product=lambda factor, ct: times_matrix(PARAMETERS, layout, ct, factor),
        factor_shape=(OUT_WIDTH, WIDTH),
        unused=unused_coefficients(layout.product),
    )


def _reduction_view(layer: Layer, transcript: Transcript, d_z_BK: np.ndarray) -> ReturnedProduct:
    backward = plan_backward(ROWS, OUT_WIDTH, (WIDTH,), (WIDTH,), PARAMETERS.degree)
    layout = reduction_layout(backward.blocks, WIDTH)
    sent = _message(transcript, EncryptedGradient)
    by_rows, by_blocks = (sent.ct_by_rows_CLN, sent.seeds_by_rows_C), (sent.ct_by_blocks_CLN, sent.seeds_by_blocks_C)
    return ReturnedProduct(
        parameters=PARAMETERS,
        key=layer.keys["active"],
        sent=_expanded(*(by_rows if backward.shared else by_blocks)),
        plaintext=layout.source.pack(d_z_BK),
        returned=_ciphertexts(_message(transcript, MaskedGradientProducts).ct_d_w_C2LN),
        product=lambda factor, ct: transposed_times(PARAMETERS, layout, factor, ct),
        factor_shape=(ROWS, WIDTH),
        unused=unused_coefficients(layout.product),
    )


def _message(transcript: Transcript, kind: type[Message]) -> Message:
    return next(message for _, _, message in transcript.sent if isinstance(message, kind))


def _expanded(first: np.ndarray, seeds: np.ndarray) -> torch.Tensor:
    return SeededCiphertexts(_ciphertexts(first), seeds).expanded(PARAMETERS)


def _ciphertexts(words: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(words.astype(np.int64))
