"""Analytic worst-case noise of every ciphertext of the protocol, and how much flooding hides it.

Noise is the distance of the phase c0 + c1 s from (q / t) m. All bounds are worst cases, not averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vfl.errors import ParameterError
from vfl.he.layout import ProductLayout, ReductionLayout
from vfl.he.parameters import FLOODING_BITS, MAX_ERROR, Parameters

FRESH_NOISE = MAX_ERROR + 0.5
"""Symmetric encryption: one error coefficient, and the rounding of q m / t."""


MAX_FLOODING_BITS = 119
"""More than any current modulus has room for; keeps the noise within four random words."""


@dataclass(frozen=True, slots=True)
class Hiding:
    """How a product is hidden before it returns to the owner of its key.

    Attributes:
        flooding_bits: flooding noise is uniform in [-2^flooding_bits, 2^flooding_bits).
        level: number of primes when it is sent; decryption is correct without the others.
    """

    flooding_bits: int
    level: int


def zero_encryption_noise(parameters: Parameters) -> float:
    """Public-key encryption of zero: e u + e0 + e1 s, with s and u ternary."""
    return MAX_ERROR * (2.0 * parameters.degree + 1)


def product_hiding(parameters: Parameters, layout: ProductLayout) -> Hiding:
    """Hiding of Enc(X) W for any W in Z_t. Raises ParameterError when the noise bound does not hold."""
    worst = layout.terms * 2.0 ** (parameters.tau - 1) * FRESH_NOISE
    return _hiding(parameters, worst, "the product with the interaction weights")


def reduction_hiding(parameters: Parameters, layout: ReductionLayout) -> Hiding:
    """Hiding of X^T Enc(Y), |X| <= 1. Raises ParameterError when the noise bound does not hold."""
    terms = layout.source.blocks * layout.feature_coefficients
    worst = terms * 2.0**parameters.settings.activation_bits * FRESH_NOISE
    return _hiding(parameters, worst, "the gradient of the interaction weights")


def _hiding(parameters: Parameters, worst: float, what: str) -> Hiding:
    """The smallest sufficient number of primes, and as much flooding as they have room for."""
    unflooded = worst + zero_encryption_noise(parameters) + 0.5
    least = math.ceil(math.log2(unflooded)) + FLOODING_BITS
    room = 0
    for level in range(1, len(parameters.primes) + 1):
        room = _flooding_room(parameters, unflooded, level)
        if room >= least:
            return Hiding(room, level)
    raise ParameterError(
        f"the job's [ring] settings are refused: {what} needs flooding of {least} bits, the modulus leaves {room}",
        remedy="use more primes with a larger ring.degree, or a smaller tau, batch_size or width",
    )


def _flooding_room(parameters: Parameters, unflooded: float, level: int) -> int:
    """Largest number of flooding bits that still decrypts after dropping to ``level`` primes; 0 if none does."""
    switched = len(parameters.primes) - level
    # Each dropped prime rounds both polynomials; all but the last rounding shrink with the primes dropped after them.
    rounding = ((parameters.degree + 1) / 2 + 1) if switched else 0.0
    budget = parameters.modulus(level) / (2 * parameters.t) - rounding
    noise = budget * math.prod(parameters.primes[level:]) - unflooded
    return min(MAX_FLOODING_BITS, math.floor(math.log2(noise))) if noise > 1 else 0
