"""Recovery of a party's activations from exact interaction outputs, by lattice reduction.

Without noise the active party holds Z = alpha W as exact integers, where alpha has few bits. It knows neither factor,
but the columns of alpha are short vectors of a lattice that Z determines. This is the hidden subset sum problem with
larger coefficients: Nguyen, Stern, "The hardness of the hidden subset sum problem and its cryptographic implications",
CRYPTO 1999; Coron, Gini, "A polynomial-time algorithm for solving the hidden subset sum problem", CRYPTO 2020.

With at least as many outputs as activations (K >= d), the rows of Z generate the lattice of the rows of W. With fewer,
the short vectors orthogonal to Z are orthogonal to alpha as well, and the vectors orthogonal to those span alpha.
Independent noise on Z, even far below its scale, destroys both lattices.

Shape suffixes: B rows, D the width d of alpha, K outputs, N rows of any matrix. Needs ``python-flint``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

Integers = npt.NDArray[np.object_]
"""Exact Python integers: products of many bits do not fit into int64."""


@dataclass(frozen=True, slots=True)
class LatticeRecovery:
    """What the attack recovered, compared with the true activations.

    Attributes:
        width: d, the number of columns of alpha.
        exact_columns: how many columns were recovered bit for bit, up to sign and order.
        same_lattice: the recovered columns are alpha times an integer matrix of determinant 1 or -1. Columns that
            resemble one another come out as small sums and differences; alpha is then as good as known.
        contained: the same with any integer matrix: a column of even numbers only, for instance, comes out halved.
    """

    width: int
    exact_columns: int
    same_lattice: bool
    contained: bool


def lattice_attack(product_BK: npt.ArrayLike, alpha_BD: npt.ArrayLike) -> LatticeRecovery:
    """Attack an output and score the result; alpha serves for the score and for its width only.

    Args:
        product_BK: Z as integers (B, K), that is, in units of the fixed-point scale of alpha times that of W.
        alpha_BD: the true activations as integers (B, d), in units of their fixed-point scale.

    Raises:
        ConfigError: there are too few rows, the values are not integers, or python-flint is missing.
    """
    alpha = _integers(alpha_BD)
    candidate = recover_activations(product_BK, alpha.shape[1])
    if candidate is None:
        return LatticeRecovery(alpha.shape[1], exact_columns=0, same_lattice=False, contained=False)
    same = same_lattice(candidate, alpha)
    return LatticeRecovery(alpha.shape[1], exact_columns(candidate, alpha), same, contained(candidate, alpha))


def recover_activations(product_BK: npt.ArrayLike, width: int) -> Integers | None:
    """Guess alpha from Z alone.

    Args:
        product_BK: Z as integers (B, K). About 3 d rows are enough; the time grows fast with their number.
        width: d.

    Returns:
        Integers (B, d), equal to alpha up to sign and order of the columns where the attack succeeds, or None where Z
        does not have the structure of a product of this width. Structure is not proof: compare with the truth.

    Raises:
        ConfigError: there are too few rows, the values are not integers, or python-flint is missing.
    """
    product = _integers(product_BK)
    if product.shape[0] < 2 * width:
        raise ConfigError(
            f"the lattice attack needs at least {2 * width} rows for activations of width {width}",
            detail=f"given {product.shape[0]} rows",
            remedy="pass more rows of the interaction output; 3 times the width is a good number",
        )
    return _from_row_lattice(product, width) if product.shape[1] >= width else _from_orthogonal_lattice(product, width)


def exact_columns(candidate_BN: npt.ArrayLike, alpha_BD: npt.ArrayLike) -> int:
    """How many distinct columns of alpha are among the candidate's columns or their negatives; zeros do not count."""
    candidate, alpha = _integers(candidate_BN), _integers(alpha_BD)
    found = {tuple(column) for column in candidate.T} | {tuple(-column) for column in candidate.T}
    return sum(tuple(column) in found for column in alpha.T if any(column))


def same_lattice(candidate_BN: npt.ArrayLike, alpha_BD: npt.ArrayLike) -> bool:
    """Whether the columns of both generate the same lattice, compared by Hermite normal form."""
    candidate, alpha = _nonzero_hnf(_integers(candidate_BN).T), _nonzero_hnf(_integers(alpha_BD).T)
    return candidate.shape == alpha.shape and bool((candidate == alpha).all())


def contained(candidate_BN: npt.ArrayLike, alpha_BD: npt.ArrayLike) -> bool:
    """Whether every column of alpha is a sum of integer multiples of the candidate's columns."""
    candidate, alpha = _integers(candidate_BN), _integers(alpha_BD)
    gram = _matrix(candidate).transpose() * _matrix(candidate)
    if gram.rank() < candidate.shape[1]:
        return False
    numerator, denominator = gram.solve(_matrix(candidate.T @ alpha)).numer_denom()
    return bool(denominator == 1 and (candidate @ _rows(numerator) == alpha).all())


def _from_row_lattice(product_BK: Integers, width: int) -> Integers | None:
    """K >= d: find a short basis of the row lattice of Z, divide by it, and shorten the columns of the quotient."""
    basis = _nonzero_hnf(product_BK)
    if len(basis) != width:
        return None
    weights_DK = _rows(_matrix(basis).lll())
    gram = _matrix(weights_DK) * _matrix(weights_DK).transpose()
    quotient = gram.solve(_matrix(weights_DK @ product_BK.T))  # alpha'^T (d, B); rational, though integral in fact
    numerator, denominator = quotient.numer_denom()
    if denominator != 1:
        return None
    return _rows(numerator.lll()).T


def _from_orthogonal_lattice(product_BK: Integers, width: int) -> Integers | None:
    """K < d: short vectors orthogonal to Z are orthogonal to alpha, and what is orthogonal to those is alpha."""
    orthogonal = _short_orthogonal(product_BK)
    to_alpha = orthogonal[: product_BK.shape[0] - width]
    columns_DB = _short_orthogonal(to_alpha.T)
    return columns_DB.T if len(columns_DB) == width else None


def _short_orthogonal(vectors_BN: Integers) -> Integers:
    """A reduced basis, as rows, of the integer vectors u (B) with u^T V = 0.

    Reduces the rows of [c V, I]: with c large enough, the first of them are 0 in the part of V (Nguyen, Stern 1999).
    """
    rows, count = vectors_BN.shape
    longest = max((abs(int(value)) for value in vectors_BN.flat), default=0)
    scale = 1 << (rows // 2 + (longest * rows).bit_length())
    identity = np.array([[int(i == j) for j in range(rows)] for i in range(rows)], dtype=object)
    reduced = _rows(_matrix(np.concatenate([vectors_BN * scale, identity], axis=1)).lll())
    orthogonal = [row[count:] for row in reduced if not any(row[:count])]
    return np.array(sorted(orthogonal, key=lambda row: int(row @ row)), dtype=object).reshape(-1, rows)


def _nonzero_hnf(matrix: Integers) -> Integers:
    rows = _rows(_matrix(matrix).hnf())
    return rows[[any(row) for row in rows]]


def _integers(values: npt.ArrayLike) -> Integers:
    array = np.asarray(values)
    if array.dtype.kind == "f" and not (array == np.rint(array)).all():
        raise ConfigError(
            "the lattice attack needs integers",
            remedy="multiply outputs and activations by their fixed-point scale, and round",
        )
    exact = [[int(value) for value in row] for row in array.tolist()]
    return np.array(exact, dtype=object).reshape(array.shape)


def _matrix(values: Integers) -> Any:
    try:
        from flint import fmpz_mat
    except ImportError as error:
        raise ConfigError(
            "the lattice attack needs python-flint", remedy="install it: pip install python-flint"
        ) from error
    return fmpz_mat([[int(value) for value in row] for row in values])


def _rows(matrix: Any) -> Integers:
    values = [[int(value) for value in row] for row in matrix.tolist()]
    return np.array(values, dtype=object).reshape(matrix.nrows(), matrix.ncols())
