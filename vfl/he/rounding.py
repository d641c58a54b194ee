"""Analytic bounds on the effect of float64 arithmetic on the integers of the scheme: they make every kernel exact.

The bounds assume IEEE 754 float64 with rounding to nearest. Of the transforms (torch.fft: MKL or pocketfft on CPUs,
cuFFT on GPUs) they assume what the theorem below asks: length 2^n is split into n levels of butterflies, in float64,
with roots of unity within two units of rounding; split radix and higher radices, which join such levels, do not err
more; algorithms of another kind (Bluestein's, Rader's) are not used for powers of two. No library promises this, so
every product through transforms is also checked at a random point (``arithmetic.checksum``).

Separate from the kernels, so that a process without torch can check a job with them (``bounds.check_bounds``).
"""

from __future__ import annotations

import math

from vfl.he.layout import ProductLayout, ReductionLayout
from vfl.he.parameters import Parameters

UNIT = 2.0**-53
"""Rounding unit of float64."""

REDUCIBLE = 2**53 - 2**30
"""Integers up to this absolute value are reduced exactly in float64 (``residues``)."""

HALF_LIMB = 15
"""Bits of the halves into which ``algebra`` splits one factor of a product."""


def product_error(degree: int, first_norm: float, second_norm: float, terms: int = 1) -> float:
    """Bound on the distance between a product of polynomials through transforms and the true integers.

    Brent, Percival and Zimmermann (Math. Comp. 76, 2007, theorem 5.1): transforms of length 2^n err by less than
    |x| |y| ((1+e)^(3n) (1+e sqrt 5)^(3n+1) (1+m)^(3n) - 1), with Euclidean norms, e the rounding unit and m the error
    of the roots of unity (here within 2 e).

    Args:
        first_norm, second_norm: bounds on the Euclidean norms of the factors.
        terms: how many products are added up before the inverse transform.
    """
    n = int(math.log2(degree // 2)) + 1
    growth = (1 + UNIT) ** (3 * n) * (1 + UNIT * math.sqrt(5)) ** (3 * n + 1) * (1 + 2 * UNIT) ** (3 * n) - 1
    return terms * first_norm * second_norm * (growth + terms * UNIT)


def zero_product_error(parameters: Parameters) -> float:
    """Bound on the rounding of a product of residues and a ternary polynomial; below 1/2 it is exact."""
    residues = 2.0 ** (parameters.settings.prime_bits - 1) * math.sqrt(parameters.degree)
    return product_error(parameters.degree, residues, math.sqrt(parameters.degree))


def transform_error(parameters: Parameters, layout: ReductionLayout) -> float:
    """Bound on the distance between a float64 result of ``algebra.transposed_times`` and the true integer."""
    half_limbs = 2.0 ** (HALF_LIMB - 1) * math.sqrt(parameters.degree)
    used = min(layout.feature_coefficients, parameters.degree)
    features = 2.0**parameters.settings.activation_bits * math.sqrt(used)
    return product_error(parameters.degree, half_limbs, features, terms=layout.source.blocks)


def matrix_magnitude(parameters: Parameters, layout: ProductLayout) -> int:
    """Largest absolute value that ``algebra.times_matrix`` accumulates in float64; must stay within ``REDUCIBLE``.

    A product by the low half, plus the product by the high half once it is reduced.
    """
    prime = max(parameters.primes)
    return (layout.terms * (prime // 2) << (HALF_LIMB - 1)) + (prime << HALF_LIMB)
