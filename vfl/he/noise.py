"""Analytic worst-case noise of every ciphertext of the protocol, and how much flooding hides it.

Noise is the distance of the phase c0 + c1 s from (q / t) m. All bounds are worst cases, not averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from vfl.errors import ParameterError
from vfl.he.layout import ProductLayout, ReductionLayout
from vfl.he.parameters import FLOODING_BITS, MAX_ERROR, Parameters

FRESH_NOISE = MAX_ERROR + 0.5
"""Symmetric encryption: one error coefficient, and the rounding of q m / t."""


MAX_FLOODING_BITS = 149
"""Keeps the noise within five random words; the default modulus has room for one bit more."""


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
    return _hiding(parameters, _product_noise(parameters, layout), "the product with the interaction weights")


def reduction_hiding(parameters: Parameters, layout: ReductionLayout) -> Hiding:
    """Hiding of X^T Enc(Y), |X| <= 1. Raises ParameterError when the noise bound does not hold."""
    return _hiding(parameters, _reduction_noise(parameters, layout), "the gradient of the interaction weights")


def product_distance(parameters: Parameters, layout: ProductLayout) -> float:
    """Bound on the statistical distance between the noise of a batch's hidden products and the flooding alone.

    Uniform noise on 2^(f+1) integers, shifted by at most s, is within s / 2^(f+1) of itself, in every coefficient that
    is sent; distances add up.
    """
    shift = _product_noise(parameters, layout) / 2.0 ** (product_hiding(parameters, layout).flooding_bits + 1)
    return layout.product.ciphertexts * layout.product.positions.size * shift


def reduction_distance(parameters: Parameters, layout: ReductionLayout) -> float:
    """The same for the gradient of the weights."""
    shift = _reduction_noise(parameters, layout) / 2.0 ** (reduction_hiding(parameters, layout).flooding_bits + 1)
    return layout.product.ciphertexts * layout.product.positions.size * shift


def _product_noise(parameters: Parameters, layout: ProductLayout) -> int:
    """Worst noise of Enc(X) W before flooding, with the encryptions of zero and of the mask."""
    return _unflooded(parameters, layout.terms << (parameters.tau - 1))


def _reduction_noise(parameters: Parameters, layout: ReductionLayout) -> int:
    terms = layout.source.blocks * layout.feature_coefficients
    return _unflooded(parameters, terms << parameters.settings.activation_bits)


def _unflooded(parameters: Parameters, factor: int) -> int:
    """Noise of fresh ciphertexts times a plain factor of this l1 norm, an encryption of zero and a rounded mask."""
    return -(-factor * int(2 * FRESH_NOISE) // 2) + math.ceil(zero_encryption_noise(parameters) + 0.5)


@lru_cache(maxsize=1024)
def _hiding(parameters: Parameters, unflooded: int, what: str) -> Hiding:
    """As much flooding as the modulus has room for, and the fewest primes that halve it at most.

    It depends on nothing but the layout, so both sides choose alike; ``check_bounds`` adds up what it achieves.
    """
    least = unflooded.bit_length() + FLOODING_BITS
    rooms = [_flooding_room(parameters, unflooded, level) for level in range(1, len(parameters.primes) + 1)]
    if rooms[-1] < least:
        raise ParameterError(
            f"the job's [ring] settings are refused: {what} needs flooding of {least} bits, "
            f"the modulus leaves {rooms[-1]}",
            remedy="use more primes with a larger ring.degree, or a smaller tau, batch_size or width",
        )
    level = next(level for level, room in enumerate(rooms, 1) if room >= max(least, rooms[-1] - 1))
    return Hiding(rooms[level - 1], level)


def _flooding_room(parameters: Parameters, unflooded: int, level: int) -> int:
    """Largest number of flooding bits that still decrypts after dropping to ``level`` primes; 0 if none does."""
    switched = len(parameters.primes) - level
    # Each dropped prime rounds both polynomials; all but the last rounding shrink with the primes dropped after them.
    rounding = parameters.degree // 2 + 2 if switched else 0
    budget = parameters.modulus(level) // (2 * parameters.t) - rounding
    noise = budget * math.prod(parameters.primes[level:]) - unflooded
    return min(MAX_FLOODING_BITS, noise.bit_length() - 1) if noise > 0 else 0
