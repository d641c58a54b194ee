"""Fixed point: reals to integers of Z_t and back, with range checks instead of silent wrapping.

Arithmetic uses int64, which wraps modulo 2^64; as t = 2^tau divides 2^64, reducing afterward is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ModelError, RangeError
from vfl.he.parameters import Parameters

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.floating[Any]]

GUARD = 0.5
"""Results beyond this share of their range stop the run: they are still correct, but a wrap is near (ADR 0005)."""

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


def update_kernel(learning_rate: float, momentum: float, rows: int, parameters: Parameters) -> tuple[int, ...]:
    """The public integers m_k = round(m momentum^k) of the truncation-free update W -= sum_k m_k dW_(t-k).

    m = lr / rows * 2^(f_w - f_a - f_d), with dW summed over the rows of the batch.

    Raises:
        RangeError: the rate is so small that rounding m would change it by more than 10 %.
    """
    s = parameters.settings
    exact = learning_rate / rows * 2.0 ** (s.weight_bits - s.activation_bits - s.gradient_bits)
    kernel: list[int] = []
    while multiplier := round(exact * momentum ** len(kernel)):
        kernel.append(multiplier)
    if not kernel or abs(kernel[0] - exact) > 0.1 * exact or kernel[0] >= 2**32:
        raise RangeError(
            f"interaction.learning_rate {learning_rate:g} cannot be represented at batches of {rows} rows",
            remedy="bring interaction.learning_rate closer to 1, or change ring.weight_bits or batch_size",
        )
    return tuple(kernel)
