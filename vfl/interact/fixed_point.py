"""Fixed point: reals to integers of Z_t and back, with range checks instead of silent wrapping.

Arithmetic uses int64, which wraps modulo 2^64; as t = 2^tau divides 2^64, reducing afterward is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ModelError, RangeError
from vfl.he.arithmetic.updates import update_kernel
from vfl.he.parameters import Parameters

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]

GUARD = 0.5
"""Results beyond this share of their range stop the run: they are still correct, but a wrap is near (ADR 0005)."""

NOISE_DEVIATIONS = 6.0
"""Matched noise is allowed for up to so many deviations, which one of 5e8 values exceeds."""

MAX_GRADIENT = 8.0
"""Largest |dL/dZ| per sample and coordinate. Losses with a bounded gradient and a 1-Lipschitz top stay below 2."""


def center(values: IntArray, tau: int) -> IntArray:
    """Representatives in [-t/2, t/2) of any int64 values modulo t = 2^tau."""
    shift = 64 - tau
    return (values << shift) >> shift


def quantize(values: FloatArray, fractional_bits: int, generator: np.random.Generator | None) -> IntArray:
    """Round to ``fractional_bits`` bits: up or down at random, unbiased, or to nearest without a generator."""
    scaled = values.astype(np.float64) * 2.0**fractional_bits
    if generator is None:
        return np.rint(scaled).astype(np.int64)
    floor = np.floor(scaled)
    # Compared with the fraction, not added: the sum could round up to the next integer and leave the range.
    return (floor + (generator.random(scaled.shape) < scaled - floor)).astype(np.int64)


def quantize_activations(
    alpha_BD: FloatArray, parameters: Parameters, generator: np.random.Generator | None, layer: str
) -> IntArray:
    """Bottom outputs, which must lie in [-1, 1], as integers of at most 2^f_a.

    Raises:
        ModelError: a value is out of range or not finite.
    """
    if not np.isfinite(alpha_BD).all() or np.abs(alpha_BD).max(initial=0.0) > 1.0:
        raise ModelError(
            f"the output of {layer} is outside [-1, 1]",
            remedy="end the bottom model with torch.nn.Tanh() or torch.nn.Hardtanh()",
        )
    return quantize(alpha_BD, parameters.settings.activation_bits, generator)


def quantize_gradient(d_z_BK: FloatArray, parameters: Parameters, generator: np.random.Generator) -> IntArray:
    """Per-sample dL/dZ as integers.

    Raises:
        RangeError: a value is not finite or beyond ``MAX_GRADIENT``.
    """
    if not np.isfinite(d_z_BK).all() or np.abs(d_z_BK).max(initial=0.0) > MAX_GRADIENT:
        raise RangeError(
            f"dL/dZ of the top model is not finite or exceeds {MAX_GRADIENT:g} per sample",
            remedy="use a loss with a bounded gradient (huber instead of mse) or a smaller top.lipschitz",
        )
    return quantize(d_z_BK, parameters.settings.gradient_bits, generator)


def quantize_weights(w_DK: FloatArray, parameters: Parameters) -> IntArray:
    """Interaction weights rounded to f_w fractional bits."""
    scaled: FloatArray = np.rint(w_DK * 2.0**parameters.settings.weight_bits)
    return scaled.astype(np.int64)


def z_to_real(z_BK: IntArray, parameters: Parameters) -> npt.NDArray[np.float64]:
    """Z in Z_t to reals.

    Raises:
        RangeError: |Z| is near the limit of its range.
    """
    bits = parameters.settings.activation_bits + parameters.settings.weight_bits
    return _to_real(z_BK, parameters, bits, parameters.z_limit, "the interaction layer (Z)")


def d_alpha_to_real(d_alpha_BD: IntArray, parameters: Parameters, layer: str) -> npt.NDArray[np.float64]:
    """d alpha in Z_t to reals.

    Raises:
        RangeError: |d alpha| is near the limit of its range.
    """
    bits = parameters.settings.gradient_bits + parameters.settings.weight_bits
    return _to_real(d_alpha_BD, parameters, bits, parameters.d_alpha_limit, f"the gradient of {layer}")


def _to_real(values: IntArray, parameters: Parameters, bits: int, limit: float, layer: str) -> npt.NDArray[np.float64]:
    real = center(values, parameters.tau).astype(np.float64) * 2.0**-bits
    if np.abs(real).max(initial=0.0) > GUARD * limit:
        raise RangeError(
            f"a value of {layer} exceeds {GUARD * limit:g}, half of what the ring can represent",
            remedy="lower interaction.learning_rate, or give [ring] more integer bits (lower weight_bits)",
        )
    return real


def check_step(
    d_z_BK: IntArray,
    learning_rate: float,
    total_width: int,
    parameters: Parameters,
    *,
    momentum: float = 0.0,
    trains: bool = True,
    relative_noise: float = 0.0,
) -> None:
    """Check that an update cannot carry values from where they are accepted to where they are again, past the wrap.

    In between are both bands in which a run stops: the one before the wrap, and the one that a wrapped value is in.

    Bottom outputs are at most 1, so |dW_dk| is at most the learning rate times the mean over the batch of |dL/dZ_k|,
    and a row's |Z_k| changes by at most the widths of the passive parties times that. The deviation of matched noise is
    at most sqrt(2) ``relative_noise`` times as large: its covariance is that of the batch and at most once that of all
    training rows. With momentum this counts for all later steps too: if each batch's whole
    effect keeps within the limit, so does every mixture of them. d alpha changes by at most sum_k |dL/dZ_k| |dW_dk|.

    Args:
        d_z_BK: per-sample dL/dZ at f_d bits, as it is sent.
        total_width: sum of the bottom widths of the passive parties.
        trains: a bottom trains, so some party learns d alpha.
        relative_noise: deviation of the matched noise in units of that of Z.

    Raises:
        RangeError: a step this large could wrap unnoticed.
    """
    s, sizes_BK = parameters.settings, np.abs(d_z_BK)
    factor = sum(update_kernel(learning_rate, momentum, len(d_z_BK), parameters))
    # |dW| in reals: the integers that are subtracted, at most 2^f_a per entry of alpha, at f_w bits.
    d_w_K = factor * 2.0 ** (s.activation_bits - s.weight_bits) * sizes_BK.sum(axis=0, dtype=np.float64)
    noisy = 1.0 + NOISE_DEVIATIONS * 2**0.5 * relative_noise
    with_noise = f" with privacy.relative_noise {relative_noise:g}" if relative_noise else ""
    of_z = f"the interaction layer (Z){with_noise}"
    steps = [(noisy * total_width * d_w_K.max(initial=0.0), parameters.z_limit, of_z)]
    if trains:
        d_alpha = float((sizes_BK @ d_w_K).max(initial=0.0)) * 2.0**-s.gradient_bits
        steps.append((d_alpha, parameters.d_alpha_limit, "the gradient of a bottom model"))
    for step, limit, layer in steps:
        if step > 2 * (1 - GUARD) * limit:
            raise RangeError(
                f"one update may change a value of {layer} by {step:.2g}, more than the {2 * (1 - GUARD) * limit:g} "
                "after which a value that wraps would look right",
                remedy="lower interaction.learning_rate or privacy.relative_noise, or give [ring] more integer bits "
                "(lower weight_bits)",
            )
