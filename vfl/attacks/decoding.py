"""Decoding of narrow outputs by what activations can be, where the lattice of the outputs tells nothing.

With few outputs for a wide bottom (K far below d), lattice reduction finds nothing even in exact outputs. But whoever
knows the activations of some rows knows W: by linear regression, exactly if the outputs are exact. And activations are
not arbitrary: each is the encoding of a row of a table. Two attacks:

- *Exact matching*, for outputs without noise. Every value that a column has in a known row is tried in combination with
  those of all others, in two halves that meet in the middle; a combination is right if it gives Z to the last bit.
- *Likelihood*, for any outputs. Candidates are weighed by how well they explain Z and the attacker's own columns. This
  is Bayes' rule with the candidates as the prior. Candidates are the known rows, or, to find out which row of a
  table belongs to which Z, all rows of the table.

Shape suffixes: B attacked rows, M known rows, D width of alpha, K outputs, C candidates, P passive columns, A own ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Encode = Callable[[Floats], Floats]
"""A frozen bottom: rows of the passive party's columns (B, P) to alpha (B, D) in fixed point, but unrounded."""

_REFINEMENTS = 4
_ROUNDING = 6.0
"""Rounding errors of Z that are searched, in standard deviations."""
_PAIRS = 1 << 20
"""Combinations that are compared at once."""
_RIDGE = 1e-3


def recover_weights(product_MK: npt.ArrayLike, alpha_MD: npt.ArrayLike) -> Integers | None:
    """The integer W with Z = alpha W for known rows, or None where there is none: with noise.

    Args:
        product_MK: Z in fixed point, of more rows than alpha is wide.
        alpha_MD: alpha in fixed point.

    Raises:
        ConfigError: there are too few rows.
    """
    product, alpha = np.asarray(product_MK, dtype=np.int64), np.asarray(alpha_MD, dtype=np.int64)
    if len(alpha) <= alpha.shape[1]:
        raise ConfigError(
            f"{len(alpha)} known rows do not determine weights for activations of width {alpha.shape[1]}",
            remedy="pass more known rows than activations",
        )
    weights_DK = np.zeros((alpha.shape[1], product.shape[1]), dtype=np.int64)
    for _ in range(_REFINEMENTS):
        rest = product - alpha @ weights_DK
        if not rest.any():
            return weights_DK
        correction = np.linalg.lstsq(alpha.astype(np.float64), rest.astype(np.float64), rcond=None)[0]
        weights_DK = weights_DK + np.rint(correction).astype(np.int64)
    return None


@dataclass(frozen=True, slots=True)
class Half:
    """All combinations of the values of half of the columns.

    Attributes:
        values_CP: of these columns.
        alpha_CD: what they contribute to alpha, unrounded.
        z_CK: what this contributes to Z, in units of its rounding error.
    """

    values_CP: Floats
    alpha_CD: Floats
    z_CK: Floats


class ExactMatching:
    """Finds the columns behind exact outputs.

    Args:
        encode: the bottom.
        weights_DK: W in fixed point, see ``recover_weights``.
        known_MP: columns of the known rows, whose values are tried.
    """

    def __init__(self, encode: Encode, weights_DK: Integers, known_MP: npt.ArrayLike) -> None:
        self._encode = encode
        self._weights = weights_DK
        # Rounding of alpha is uniform in each component and shifts Z by this much.
        self._unit_K = np.maximum(np.sqrt((weights_DK.astype(np.float64) ** 2).sum(axis=0) / 12.0), 1.0)
        known = np.asarray(known_MP, dtype=np.float64)
        columns = [np.unique(column) for column in known.T]
        # In the middle of every column, far from where activations are clamped.
        self._base_P = np.sort(known, axis=0)[len(known) // 2]
        self._base_D = encode(self._base_P[None])[0]
        split = _balanced(columns)
        self._first, self._second = self._half(columns, range(split)), self._half(columns, range(split, len(columns)))
        self._cells = np.floor(self._second.z_CK / _ROUNDING).astype(np.int64)
        self._order = np.lexsort(self._cells.T[::-1])
        self._low = self._cells.min(axis=0)
        self._span = self._cells.max(axis=0) - self._low + 3
        self._keys = self._key(self._cells)[self._order]

    def _half(self, columns: Sequence[Floats], which: range) -> Half:
        """Encodings are sums over columns, but for the clamp, which hardly any row reaches."""
        values, alpha = np.zeros((1, 0)), np.zeros((1, len(self._base_D)))
        for at in which:
            rows = np.repeat(self._base_P[None], len(columns[at]), axis=0)
            rows[:, at] = columns[at]
            own = self._encode(rows) - self._base_D
            values = np.column_stack([np.repeat(values, len(own), axis=0), np.tile(columns[at], len(values))])
            alpha = (alpha[:, None] + own[None]).reshape(-1, alpha.shape[1])
        return Half(values, alpha, alpha @ self._weights.astype(np.float64) / self._unit_K)

    def _key(self, cells_CK: Integers) -> Integers:
        """One number for each cell of the grid, and -1 for cells in which there is nothing."""
        shifted = cells_CK - self._low + 1
        inside = ((shifted >= 0) & (shifted < self._span)).all(axis=1)
        strides = np.concatenate([np.cumprod(self._span[::-1])[::-1][1:], [1]])
        keys: Integers = np.where(inside, shifted @ strides, -1)
        return keys

    def find(self, product_K: npt.ArrayLike) -> Floats | None:
        """The passive party's columns (P,) behind an exact row of Z; None if no combination, or more than one, fits."""
        product = np.asarray(product_K, dtype=np.int64)
        rest_CK = product / self._unit_K - self._base_D @ self._weights / self._unit_K - self._first.z_CK
        center = np.floor(rest_CK / _ROUNDING).astype(np.int64)
        found: list[Floats] = []
        for shift in itertools.product((-1, 0, 1), repeat=center.shape[1]):
            keys = self._key(center + np.array(shift))
            start, stop = (np.searchsorted(self._keys, keys, side) for side in ("left", "right"))
            counts = np.where(keys >= 0, stop - start, 0)
            for block in _blocks(counts):
                first = np.repeat(block, counts[block])
                offsets = np.arange(len(first)) - np.repeat(np.cumsum(counts[block]) - counts[block], counts[block])
                second = self._order[np.repeat(start[block], counts[block]) + offsets]
                found += self._exact(first, second, rest_CK, product)
        return found[0] if len(found) == 1 else None

    def _exact(self, first: Integers, second: Integers, rest_CK: Floats, product: Integers) -> list[Floats]:
        near = (np.abs(rest_CK[first] - self._second.z_CK[second]) < _ROUNDING).all(axis=1)
        first, second = first[near], second[near]
        alpha = np.rint(self._base_D + self._first.alpha_CD[first] + self._second.alpha_CD[second]).astype(np.int64)
        fits = (alpha @ self._weights == product).all(axis=1)
        rows = zip(first[fits].tolist(), second[fits].tolist(), strict=True)
        return [np.concatenate([self._first.values_CP[a], self._second.values_CP[b]]) for a, b in rows]


def _balanced(columns: Sequence[Floats]) -> int:
    """Where to split the columns, so that the larger half has the fewest combinations."""
    sizes = np.array([len(column) for column in columns], dtype=np.float64)
    larger = [max(sizes[:at].prod(), sizes[at:].prod()) for at in range(1, len(sizes))]
    return 1 + int(np.argmin(larger)) if larger else 1


def _blocks(counts: Integers) -> list[Integers]:
    """Indices with something to compare, in pieces of a bounded number of combinations."""
    rows = np.flatnonzero(counts)
    pieces = np.cumsum(counts[rows]) // _PAIRS
    return np.split(rows, np.flatnonzero(np.diff(pieces)) + 1) if len(rows) else []


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the attacker has about a row, as a linear function of alpha with Gaussian noise.

    Attributes:
        expected_CF: for each candidate what would be seen without noise.
        seen_BF: for each attacked row what was seen.
        covariance_FF: of the noise.
    """

    expected_CF: Floats
    seen_BF: Floats
    covariance_FF: Floats


def from_views(views_BF: Floats, candidates_CD: Floats, known_MD: Floats, views_MF: Floats) -> Evidence:
    """Evidence of outputs, or of own columns: their regression on alpha and its residuals come from the known rows."""
    known = np.column_stack([known_MD, np.ones(len(known_MD))])
    moment = known.T @ known / len(known)
    moment += _RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))
    weights = np.linalg.solve(moment, known.T @ views_MF / len(known))
    # Residuals of a regression are too small by what it fits.
    freedom = max(len(known) - known.shape[1], 1)
    residual = views_MF - known @ weights
    covariance = residual.T @ residual / freedom + 1e-9 * np.eye(views_MF.shape[1]) * views_MF.var(axis=0).mean()
    return Evidence(np.column_stack([candidates_CD, np.ones(len(candidates_CD))]) @ weights, views_BF, covariance)


def likelihoods(evidence: Sequence[Evidence]) -> Floats:
    """Logarithm of the likelihood of each candidate for each attacked row (B, C), up to a constant of the row."""
    total = 0.0
    for part in evidence:
        root = np.linalg.cholesky(np.linalg.inv(part.covariance_FF))
        seen, expected = part.seen_BF @ root, part.expected_CF @ root
        total = total + seen @ expected.T - 0.5 * (expected**2).sum(axis=1)
    result: Floats = np.asarray(total, dtype=np.float64)
    return result


def most_probable(log_BC: Floats, values_CP: npt.ArrayLike) -> Floats:
    """For each attacked row the most probable value of each column (B, P), each column by itself."""
    values = np.asarray(values_CP, dtype=np.float64)
    weights_BC = np.exp(log_BC - log_BC.max(axis=1, keepdims=True))
    columns = []
    for column in values.T:
        distinct, inverse = np.unique(column, return_inverse=True)
        member = np.zeros((len(column), len(distinct)))
        member[np.arange(len(column)), inverse] = 1.0
        columns.append(distinct[(weights_BC @ member).argmax(axis=1)])
    return np.stack(columns, axis=1)


def linked(log_BC: Floats, true_B: npt.ArrayLike, values_CP: npt.ArrayLike) -> float:
    """Share of the attacked rows whose most likely candidate has the columns of the true one."""
    values = np.asarray(values_CP)
    best = values[log_BC.argmax(axis=1)]
    return float((best == values[np.asarray(true_B)]).all(axis=1).mean())


def ranks(log_BC: Floats, true_B: npt.ArrayLike) -> Integers:
    """How many candidates are more likely than the true one, for each attacked row (B,)."""
    true = np.take_along_axis(log_BC, np.asarray(true_B, dtype=np.int64)[:, None], axis=1)
    more: Integers = (log_BC > true).sum(axis=1)
    return more
