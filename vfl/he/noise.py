"""Analytic worst-case noise of every ciphertext of the protocol, and how much flooding hides it.

Noise is the distance of the phase c0 + c1 s from (q / t) m. All bounds are worst cases, not averages.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from vfl.errors import ParameterError
from vfl.he.layout import (
    LINK_MBIT,
    BackwardLayout,
    ProductLayout,
    ReductionLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
)
from vfl.he.parameters import FLOODING_BITS, MAX_ERROR, Parameters
from vfl.he.rounding import REDUCIBLE, matrix_magnitude, transform_error, zero_product_error

MAX_ROUNDING = 0.25
"""Floating-point results must be provably nearer than this to the integers they stand for; 1/2 would be exact."""

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


def check_bounds(
    parameters: Parameters,
    rows: int,
    widths: tuple[int, ...],
    out_width: int,
    gradient_widths: tuple[int, ...] | None = None,
    link_mbit: int = LINK_MBIT,
) -> None:
    """Check noise and float exactness for every batch of up to ``rows`` rows, for every passive party's width.

    ``gradient_widths`` are the widths of those whose bottoms train; all of them if omitted. ``link_mbit`` is the
    speed for which layouts are chosen.

    Layouts depend on the batch mostly through the next power of two, so powers of two are checked; any other
    dependence stays within the factor of two that the limits allow.

    Raises:
        ParameterError: an analytic bound does not hold.
    """
    if (error := zero_product_error(parameters)) >= MAX_ROUNDING:
        raise ParameterError(
            f"encryption is not provably exact with these primes (rounding bound {error:.2g})",
            remedy="use fewer ring.prime_bits or a smaller ring.degree",
        )
    trained = widths if gradient_widths is None else gradient_widths
    for size in (1 << bits for bits in range((rows - 1).bit_length() + 1)):
        backward = plan_backward(size, out_width, widths, trained, parameters.degree, link_mbit)
        for width in widths:
            _check_product(parameters, plan_product(size, width, out_width, parameters.degree, link_mbit))
            _check_backward(parameters, backward, width)


def _check_backward(parameters: Parameters, backward: BackwardLayout, width: int) -> None:
    if backward.rows is not None:
        _check_product(parameters, product_layout(backward.rows, width))
    reduction = reduction_layout(backward.blocks, width)
    reduction_hiding(parameters, reduction)
    if (error := transform_error(parameters, reduction)) >= MAX_ROUNDING:
        raise ParameterError(
            f"the weight-gradient kernel is not provably exact at this size (rounding bound {error:.2g})",
            remedy="use a smaller batch_size or fewer activation_bits",
        )


def _check_product(parameters: Parameters, layout: ProductLayout) -> None:
    product_hiding(parameters, layout)
    if matrix_magnitude(parameters, layout) > REDUCIBLE:
        raise ParameterError(
            "the matrix kernel is not provably exact at this width", remedy="use a smaller bottom width"
        )
