"""Whether a job's parameters suffice for every batch that it computes: what is checked before it starts.

Layouts, and with them all bounds, depend on the number of rows. Bounds are therefore checked at the sizes that occur;
where a size is not known yet, at one size of each class with the same layouts (``layout.sizes_that_differ``).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from vfl.errors import ParameterError
from vfl.he.layout import (
    LINK_MBIT,
    ProductLayout,
    ReductionLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
    sizes_that_differ,
)
from vfl.he.noise import product_distance, reduction_distance
from vfl.he.parameters import FLOODING_BITS, Parameters
from vfl.he.rounding import REDUCIBLE, matrix_magnitude, transform_error, zero_product_error

MAX_ROUNDING = 0.25
"""Floating-point results must be provably nearer than this to the integers they stand for; 1/2 would be exact."""

REPETITIONS = 16
"""A job's noise is counted so many times: failures repeat parts of the work, with new ciphertexts."""


def possible_training_sizes(batch_size: int) -> range:
    """Rows that a training batch may have: a last one of less than half the size is left out (``data.split``)."""
    return range(-(-batch_size // 2), batch_size + 1)


@dataclass(frozen=True, slots=True)
class Workload:
    """The batches of a job: how many of each size there are at least. 0 stands for a size that may occur.

    Attributes:
        training: batches by their rows, computed forward and backward.
        scoring: batches by their rows, computed forward only.
    """

    training: Mapping[int, int]
    scoring: Mapping[int, int]

    @classmethod
    def before_alignment(cls, passes: int, batch_size: int, scoring_size: int, degree: int) -> Workload:
        """All sizes that some number of aligned rows leads to; certain is only one batch in every pass."""
        least = possible_training_sizes(batch_size).start
        training = dict.fromkeys((*sizes_that_differ(least, batch_size, degree), least), 0)
        scoring = dict.fromkeys(sizes_that_differ(1, scoring_size, degree), 0)
        return cls(training | {least: passes}, scoring)

    @classmethod
    def stagewise_before_alignment(cls, batch_size: int, degree: int) -> Workload:
        """The same where no batch is left out."""
        sizes = dict.fromkeys(sizes_that_differ(1, batch_size, degree), 0)
        return cls(sizes, sizes)


def check_bounds(
    parameters: Parameters,
    work: Workload,
    widths: tuple[int, ...],
    out_width: int,
    gradient_widths: tuple[int, ...] | None = None,
    link_mbit: int = LINK_MBIT,
) -> None:
    """Check that every batch is computed exactly and decrypts, and that the noise of the whole job is hidden.

    Args:
        widths: bottom widths of the passive parties.
        out_width: width of Z.
        gradient_widths: widths of those whose bottoms train; if omitted, any of them may.
        link_mbit: the speed for which layouts are chosen.

    Raises:
        ParameterError: an analytic bound does not hold.
    """
    if (error := zero_product_error(parameters)) >= MAX_ROUNDING:
        raise ParameterError(
            f"encryption is not provably exact with these primes (rounding bound {error:.2g})",
            remedy="use fewer ring.prime_bits or a smaller ring.degree",
        )
    distance = _forward_distance(parameters, work, widths, out_width, link_mbit)
    # Before it is known which bottoms train, the least of what may be counts, as for the number of batches.
    distance += min(
        _backward_distance(parameters, work, widths, out_width, trained, link_mbit)
        for trained in (_possible(widths) if gradient_widths is None else (gradient_widths,))
    )
    if distance * REPETITIONS > 2.0**-FLOODING_BITS:
        bits = math.floor(-math.log2(distance * REPETITIONS))
        raise ParameterError(
            f"flooding does not hide the noise of the whole job: within a statistical distance of 2^-{bits}, "
            f"2^-{FLOODING_BITS} is needed",
            remedy="use more ring.primes (7 of 30 bits at degree 8192), a smaller ring.tau, or fewer training.passes",
        )


def _possible(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Widths of bottoms that train, one of each class with the same layouts: only the largest of them matters."""
    return [(), *((width,) for width in sorted(set(widths)))]


def _forward_distance(
    parameters: Parameters, work: Workload, widths: tuple[int, ...], out_width: int, link_mbit: int
) -> float:
    """Check every Enc(alpha) V; the statistical distance of their noise over the job."""
    total = 0.0
    for rows in {*work.training, *work.scoring}:
        times = work.training.get(rows, 0) + work.scoring.get(rows, 0)
        for width, parties in Counter(widths).items():
            layout = plan_product(rows, width, out_width, parameters.degree, link_mbit)
            total += times * parties * _checked_product(parameters, layout)
    return total


def _backward_distance(
    parameters: Parameters,
    work: Workload,
    widths: tuple[int, ...],
    out_width: int,
    gradient_widths: tuple[int, ...],
    link_mbit: int,
) -> float:
    """Check every alpha^T Enc(delta) and Enc(delta) U^T; the statistical distance of their noise over the job."""
    total = 0.0
    for rows, times in work.training.items():
        backward = plan_backward(rows, out_width, widths, gradient_widths, parameters.degree, link_mbit)
        for width, parties in Counter(widths).items():
            total += times * parties * _checked_reduction(parameters, reduction_layout(backward.blocks, width))
        for width, parties in Counter(gradient_widths).items():
            if backward.rows is not None:
                total += times * parties * _checked_product(parameters, product_layout(backward.rows, width))
    return total


def _checked_reduction(parameters: Parameters, layout: ReductionLayout) -> float:
    """The statistical distance of a batch; raises ParameterError if it is not exact."""
    if (error := transform_error(parameters, layout)) >= MAX_ROUNDING:
        raise ParameterError(
            f"the weight-gradient kernel is not provably exact for batches of {layout.source.rows} rows "
            f"(rounding bound {error:.2g})",
            remedy="use a smaller batch_size or fewer activation_bits",
        )
    return reduction_distance(parameters, layout)


def _checked_product(parameters: Parameters, layout: ProductLayout) -> float:
    """The statistical distance of a batch; raises ParameterError if it is not exact."""
    if matrix_magnitude(parameters, layout) > REDUCIBLE:
        raise ParameterError(
            "the matrix kernel is not provably exact at this width", remedy="use a smaller bottom width"
        )
    return product_distance(parameters, layout)
