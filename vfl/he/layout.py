"""Which packing to use for a batch: the choice that takes the least time for computing and sending.

All candidates are enumerated: sizes are powers of two, so there are at most a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from vfl.errors import ParameterError
from vfl.he.packing import ReductionPacking, RowPacking

LINK_MBIT = 1000
"""Assumed speed of the connection between two parties, in Mbit/s, unless the job sets it."""

_FRESH_SECONDS = 2.3e-3
_RETURNED_SECONDS = 5.3e-3
_MULTIPLICATION_SECONDS = 2.8e-9  # one weight times one coefficient: all primes, halves, both polynomials
_TRANSFORM_SECONDS = 1.4e-3  # all residues of one ciphertext
_FEATURE_SECONDS = 5e-5
_SUM_SECONDS = 2.3e-4  # one ciphertext times one polynomial, transformed
_FRESH_POLYNOMIALS = 7  # residues modulo one prime
_RETURNED_PRIMES = 3
_RESIDUE_BITS = 30

MAX_TERMS = 1000
"""Products added up in one float64 accumulation of the matrix kernel, so that it stays exact (see ``algebra``)."""

MIN_STRIDE = 32
"""Shortest group of rows: the matrix kernel builds matrices of (N / stride)^2."""

_MAX_BLOCKS = 128
"""Most blocks of rows that are considered, unless the degree is too small for so few."""


@dataclass(frozen=True, slots=True)
class ProductLayout:
    """Packings for Enc(X_BD) W_DK: of the fresh input and of the returned output."""

    source: RowPacking
    product: RowPacking

    @property
    def terms(self) -> int:
        """Non-zero plaintext coefficients that one output coefficient adds up."""
        return self.source.groups * self.source.per_ciphertext * self.product.per_ciphertext

    def slabs(self, ciphertexts: int) -> Iterator[tuple[slice, ProductLayout]]:
        """The rows of the batch in groups of whole blocks, which are computed and sent independently of each other.

        Args:
            ciphertexts: a group has about this many; at least one block.

        Yields:
            The rows, and the layout of a batch of only these rows.
        """
        blocks = max(1, ciphertexts // max(self.source.groups, self.product.groups))
        run = blocks * self.source.stride
        for start in range(0, self.source.rows, run):
            rows = min(run, self.source.rows - start)
            layout = ProductLayout(replace(self.source, rows=rows), replace(self.product, rows=rows))
            yield slice(start, start + rows), layout


@dataclass(frozen=True, slots=True)
class ReductionLayout:
    """Packings for X_BD^T Enc(Y_BK): of the fresh Y and of the returned D x K result."""

    source: RowPacking
    product: ReductionPacking

    @property
    def feature_coefficients(self) -> int:
        """Plaintext coefficients of one block polynomial: rows of the block times features that share it."""
        return self.source.stride * self.product.features_per_ciphertext


@dataclass(frozen=True, slots=True)
class BackwardLayout:
    """How dL/dZ is encrypted once for all passive parties, and what each of them returns.

    ``rows`` is the packing that serves delta U^T (None when no party needs it), ``blocks`` that for alpha^T delta;
    they are equal when one encryption serves both.
    """

    rows: RowPacking | None
    blocks: RowPacking

    @property
    def shared(self) -> bool:
        """One encryption serves both products."""
        return self.rows == self.blocks


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that a layout takes: arithmetic of both sides and transfer.

    The constants were measured on one core of the reference machine (benchmarks/), for seven 30-bit primes. A wrong
    estimate only costs time; all parties must use the same constants.
    """

    degree: int
    link_mbit: int

    def fresh(self, packing: RowPacking) -> float:
        """Encrypt, send, expand the seeds."""
        return packing.ciphertexts * (_FRESH_SECONDS + self._transfer(_FRESH_POLYNOMIALS))

    def product(self, layout: ProductLayout) -> float:
        """Multiply by a matrix, hide, send, decrypt."""
        cells = self.degree // layout.source.stride
        columns = layout.source.blocks * layout.source.stride
        multiplications = layout.product.groups * cells * layout.source.groups * cells * columns
        returned = layout.product.ciphertexts * (_RETURNED_SECONDS + self._transfer(2 * _RETURNED_PRIMES))
        return multiplications * _MULTIPLICATION_SECONDS + returned

    def reduction(self, layout: ReductionLayout) -> float:
        """Reduce over the rows, hide, send, decrypt."""
        source, product = layout.source, layout.product
        transforms = source.ciphertexts + product.ciphertexts
        features = source.blocks * product.feature_groups
        sums = source.ciphertexts * product.feature_groups
        # Only few coefficients of the first polynomial are sent.
        returned = product.ciphertexts * (_RETURNED_SECONDS + self._transfer(_RETURNED_PRIMES))
        return transforms * _TRANSFORM_SECONDS + features * _FEATURE_SECONDS + sums * _SUM_SECONDS + returned

    def _transfer(self, polynomials: int) -> float:
        return polynomials * self.degree * _RESIDUE_BITS / (self.link_mbit * 1e6)


@lru_cache(maxsize=1024)
def plan_product(rows: int, in_width: int, out_width: int, degree: int, link_mbit: int = LINK_MBIT) -> ProductLayout:
    """Cheapest layout of Enc(X) W for X of rows x in_width and W of in_width x out_width.

    Args:
        link_mbit: speed of the connection between the parties, in Mbit/s.

    Raises:
        ParameterError: X is too wide for any exact layout.
    """
    candidates = [product_layout(source, out_width) for source in _row_packings(rows, in_width, degree)]
    exact = [layout for layout in candidates if layout.terms <= MAX_TERMS]
    if not exact:
        raise _too_wide(in_width)
    costs = Costs(degree, link_mbit)
    return min(exact, key=lambda layout: costs.fresh(layout.source) + costs.product(layout))


@lru_cache(maxsize=1024)
def plan_backward(
    rows: int,
    out_width: int,
    widths: tuple[int, ...],
    gradient_widths: tuple[int, ...],
    degree: int,
    link_mbit: int = LINK_MBIT,
) -> BackwardLayout:
    """Cheapest packings of dL/dZ (rows x out_width) for passive parties of the given widths.

    Passive parties compute at the same time, so the most expensive one counts, not their sum: another party does not
    change how dL/dZ is encrypted unless it is wider than the others.

    Args:
        widths: bottom widths of all passive parties; each returns alpha^T delta.
        gradient_widths: widths of those that also need d alpha; each returns delta U^T.
        link_mbit: speed of the connection between the parties, in Mbit/s.

    Raises:
        ParameterError: dL/dZ is too wide for any exact layout.
    """
    costs = Costs(degree, link_mbit)
    packings = list(_row_packings(rows, out_width, degree))
    by_blocks = {p: max(costs.reduction(reduction_layout(p, d)) for d in widths) for p in packings}
    best_blocks = min(packings, key=lambda p: by_blocks[p] + costs.fresh(p))
    if not gradient_widths:
        return BackwardLayout(None, best_blocks)
    by_rows = {
        p: max(costs.product(product_layout(p, d)) for d in gradient_widths)
        for p in packings
        if all(product_layout(p, d).terms <= MAX_TERMS for d in gradient_widths)
    }
    if not by_rows:
        raise _too_wide(out_width)
    best_rows = min(by_rows, key=lambda p: by_rows[p] + costs.fresh(p))
    best_shared = min(by_rows, key=lambda p: by_rows[p] + by_blocks[p] + costs.fresh(p))
    apart = by_rows[best_rows] + costs.fresh(best_rows) + by_blocks[best_blocks] + costs.fresh(best_blocks)
    together = by_rows[best_shared] + by_blocks[best_shared] + costs.fresh(best_shared)
    if together <= apart:
        return BackwardLayout(best_shared, best_shared)
    return BackwardLayout(best_rows, best_blocks)


def product_layout(source: RowPacking, out_width: int) -> ProductLayout:
    """Layout of Enc(X) W when X is packed as ``source``: as many output columns per ciphertext as fit."""
    spacing = source.per_ciphertext * source.stride
    per = min(source.degree // spacing, _power_of_two(out_width))
    return ProductLayout(source, RowPacking(source.rows, out_width, source.degree, source.stride, per, spacing))


def reduction_layout(source: RowPacking, features: int) -> ReductionLayout:
    """Layout of X^T Enc(Y) when Y is packed as ``source``: as many features per ciphertext as fit."""
    per = min(source.degree // (source.per_ciphertext * source.stride), _power_of_two(features))
    product = ReductionPacking(features, source.columns, source.degree, source.stride, per, source.per_ciphertext)
    return ReductionLayout(source, product)


def sizes_that_differ(smallest: int, largest: int, degree: int) -> Iterator[int]:
    """Numbers of rows, one from each class with the same layouts but for ``rows``; decreasing, from ``largest``.

    A layout depends on the rows through the number of blocks at each stride that is considered: powers of two of which
    the shortest, s, has at most ``_MAX_BLOCKS`` blocks. So all sizes between two multiples of s have the same layouts.

    Args:
        largest: at most ``_MAX_BLOCKS * degree / 2``.
    """
    if largest * 2 > _MAX_BLOCKS * degree:
        raise ValueError(f"a batch of {largest} rows is too large for ring degree {degree}")
    rows = largest
    while rows >= smallest:
        yield rows
        shortest = max(MIN_STRIDE, _power_of_two(-(-rows // _MAX_BLOCKS)))
        rows = (rows - 1) // shortest * shortest


def _row_packings(rows: int, columns: int, degree: int) -> Iterator[RowPacking]:
    if rows < 1 or columns < 1:
        raise ParameterError(
            f"cannot lay out a batch of {rows} rows and {columns} columns",
            remedy="every batch needs at least one row and every bottom a width of at least one",
        )
    stride = max(MIN_STRIDE, min(degree, _power_of_two(rows)))
    while stride >= MIN_STRIDE and -(-rows // stride) <= max(_MAX_BLOCKS, 2 * (rows // degree)):
        per = 1
        while per * stride <= degree and per <= _power_of_two(columns):
            yield RowPacking(rows, columns, degree, stride, per, stride)
            per *= 2
        stride //= 2


def _too_wide(width: int) -> ParameterError:
    return ParameterError(
        f"a layer of {width} columns is too wide for the exact matrix kernel (at most {MAX_TERMS})",
        remedy="use a smaller bottom width or interaction width",
    )


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()
