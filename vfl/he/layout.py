"""Which packing to use for a batch: the choice that needs the fewest expensive ciphertext operations.

Candidates are enumerated, not searched cleverly: all sizes are powers of two, so there are at most a few hundred.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from vfl.errors import ParameterError
from vfl.he.packing import ReductionPacking, RowPacking

# Relative costs, measured: a fresh ciphertext is one symmetric encryption; a returned one is one public-key encryption
# of zero, masking, flooding and one decryption. A block costs one Fourier transform of its residues.
COST_FRESH = 1.0
COST_RETURNED = 1.5
MAX_TERMS = 1024
"""Products added up in one float64 accumulation of the matrix kernel, so that it stays exact (see ``algebra``)."""

MIN_STRIDE = 32
"""Shortest run of rows: the matrix kernel builds matrices of (N / stride)^2."""


@dataclass(frozen=True, slots=True)
class ProductLayout:
    """Packings for Enc(X_BD) W_DK: of the fresh input and of the returned output."""

    source: RowPacking
    product: RowPacking

    @property
    def terms(self) -> int:
        """Non-zero plaintext coefficients that one output coefficient adds up."""
        return self.source.groups * self.source.per_ciphertext * self.product.per_ciphertext


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


@lru_cache(maxsize=64)
def plan_product(rows: int, in_width: int, out_width: int, degree: int) -> ProductLayout:
    """Cheapest layout of Enc(X) W for X of rows x in_width and W of in_width x out_width.

    Raises:
        ParameterError: X is too wide for any exact layout.
    """
    candidates = [product_layout(source, out_width) for source in _row_packings(rows, in_width, degree)]
    exact = [layout for layout in candidates if layout.terms <= MAX_TERMS]
    if not exact:
        raise _too_wide(in_width)
    return min(exact, key=_product_cost)


@lru_cache(maxsize=64)
def plan_backward(
    rows: int, out_width: int, widths: tuple[int, ...], gradient_widths: tuple[int, ...], degree: int
) -> BackwardLayout:
    """Cheapest packings of dL/dZ (rows x out_width) for passive parties of the given widths.

    Args:
        widths: bottom widths of all passive parties; each returns alpha^T delta.
        gradient_widths: widths of those that also need d alpha; each returns delta U^T.

    Raises:
        ParameterError: dL/dZ is too wide for any exact layout.
    """
    packings = list(_row_packings(rows, out_width, degree))
    by_blocks = {p: sum(_reduction_cost(reduction_layout(p, d)) for d in widths) for p in packings}
    if not gradient_widths:
        return BackwardLayout(None, min(packings, key=lambda p: by_blocks[p] + _fresh_cost(p)))
    by_rows = {
        p: sum(_returned_cost(product_layout(p, d)) for d in gradient_widths)
        for p in packings
        if all(product_layout(p, d).terms <= MAX_TERMS for d in gradient_widths)
    }
    if not by_rows:
        raise _too_wide(out_width)
    best_rows = min(by_rows, key=lambda p: by_rows[p] + _fresh_cost(p))
    best_blocks = min(packings, key=lambda p: by_blocks[p] + _fresh_cost(p))
    best_shared = min(by_rows, key=lambda p: by_rows[p] + by_blocks[p] + _fresh_cost(p))
    apart = by_rows[best_rows] + _fresh_cost(best_rows) + by_blocks[best_blocks] + _fresh_cost(best_blocks)
    together = by_rows[best_shared] + by_blocks[best_shared] + _fresh_cost(best_shared)
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


def _row_packings(rows: int, columns: int, degree: int) -> Iterator[RowPacking]:
    if rows < 1 or columns < 1:
        raise ParameterError(
            f"cannot lay out a batch of {rows} rows and {columns} columns",
            remedy="every batch needs at least one row and every bottom a width of at least one",
        )
    stride = max(MIN_STRIDE, min(degree, _power_of_two(rows)))
    while stride >= MIN_STRIDE and -(-rows // stride) <= 2 * max(64, rows // degree):
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


def _fresh_cost(source: RowPacking) -> float:
    return COST_FRESH * source.ciphertexts


def _returned_cost(layout: ProductLayout) -> float:
    return COST_RETURNED * layout.product.ciphertexts


def _product_cost(layout: ProductLayout) -> float:
    return _fresh_cost(layout.source) + _returned_cost(layout)


def _reduction_cost(layout: ReductionLayout) -> float:
    return COST_RETURNED * layout.product.ciphertexts
