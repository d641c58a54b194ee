"""Whether a job's parameters suffice for every batch that it computes: what is checked before it starts.

Layouts, and with them all bounds, depend on the number of rows. Bounds are therefore checked at the sizes that occur;
where a size is not known yet, at one size of each class with the same layouts (``layout.sizes_that_differ``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vfl.errors import ParameterError
from vfl.he.layout import (
    LINK_MBIT,
    BackwardLayout,
    ProductLayout,
    plan_backward,
    plan_product,
    product_layout,
    reduction_layout,
    sizes_that_differ,
)
from vfl.he.noise import product_hiding, reduction_hiding
from vfl.he.parameters import Parameters
from vfl.he.rounding import REDUCIBLE, matrix_magnitude, transform_error, zero_product_error

MAX_ROUNDING = 0.25
"""Floating-point results must be provably nearer than this to the integers they stand for; 1/2 would be exact."""


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
    def before_alignment(cls, epochs: int, batch_size: int, scoring_size: int, degree: int) -> Workload:
        """All sizes that some number of aligned rows leads to; certain is only one batch in every epoch.

        A last training batch of less than half the size is left out (``data.split``); one of scoring is not.
        """
        least = -(-batch_size // 2)
        training = dict.fromkeys((*sizes_that_differ(least, batch_size, degree), least), 0)
        scoring = dict.fromkeys(sizes_that_differ(1, scoring_size, degree), 0)
        return cls(training | {least: epochs}, scoring)


def check_bounds(
    parameters: Parameters,
    work: Workload,
    widths: tuple[int, ...],
    out_width: int,
    gradient_widths: tuple[int, ...] | None = None,
    link_mbit: int = LINK_MBIT,
) -> None:
    """Check noise and float exactness for every batch of the job, for every passive party's width.

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
    for trained in _possible(widths) if gradient_widths is None else (gradient_widths,):
        for rows in work.training:
            backward = plan_backward(rows, out_width, widths, trained, parameters.degree, link_mbit)
            for width in set(widths):
                _check_backward(parameters, backward, width)
    for rows in {*work.training, *work.scoring}:
        for width in set(widths):
            _check_product(parameters, plan_product(rows, width, out_width, parameters.degree, link_mbit))


def _possible(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Widths of bottoms that train, one of each class with the same layouts: only the largest of them matters."""
    return [(), *((width,) for width in sorted(set(widths)))]


def _check_backward(parameters: Parameters, backward: BackwardLayout, width: int) -> None:
    if backward.rows is not None:
        _check_product(parameters, product_layout(backward.rows, width))
    reduction = reduction_layout(backward.blocks, width)
    reduction_hiding(parameters, reduction)
    if (error := transform_error(parameters, reduction)) >= MAX_ROUNDING:
        raise ParameterError(
            f"the weight-gradient kernel is not provably exact for batches of {backward.blocks.rows} rows "
            f"(rounding bound {error:.2g})",
            remedy="use a smaller batch_size or fewer activation_bits",
        )


def _check_product(parameters: Parameters, layout: ProductLayout) -> None:
    product_hiding(parameters, layout)
    if matrix_magnitude(parameters, layout) > REDUCIBLE:
        raise ParameterError(
            "the matrix kernel is not provably exact at this width", remedy="use a smaller bottom width"
        )
