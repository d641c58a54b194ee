"""Checks of products of polynomials modulo X^N + 1 and a prime q, at one random point, at the cost of reading them.

Modulo q = 1 (mod 2N), X^N + 1 has N roots. At each of them, evaluating maps a product modulo X^N + 1 to the product of
the values: a(r) b(r) = c(r) (mod q) holds for every root r exactly if c is right. A single wrong coefficient is noticed
at any root, since d r^j is not 0. Several at random are missed with a probability of about 1/q. Errors that are made to
cancel at many roots may be missed more often.

This guards against what no bound covers: a transform library that errs by more than is assumed of it (``rounding``), a
miscompiled kernel, failing memory. It does not replace the bounds, and is no defense against an adversary.

Evaluating splits a polynomial into chunks of W coefficients. The sum of coefficients times powers of r over a chunk is
an integer below 2^53, so float64 matrix products are exact. Powers of r^W join the sums in int64.

Shapes: L primes, N degree, W chunk, C = N / W chunks.
"""

from __future__ import annotations

import secrets

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import InternalError

IntArray = npt.NDArray[np.int64]

CHUNK = 256

_HALF = 15
"""Bits of the halves of powers by which residues are multiplied: 30 + 14 + 8 bits are exact."""

SMALL = 1 << 15
"""Coefficients up to this are multiplied by whole powers: 15 + 29 + 8 bits are exact."""


class Point:
    """A random root of X^N + 1 modulo each prime."""

    def __init__(self, primes: tuple[int, ...], degree: int, device: torch.device | None = None) -> None:
        self._primes_L1 = np.array(primes)[:, None]
        roots = [_random_root(prime, degree) for prime in primes]
        inner_LW = _powers(roots, self._primes_L1, CHUNK)
        outer = [pow(root, CHUNK, prime) for root, prime in zip(roots, primes, strict=True)]
        self._outer_LC = _powers(outer, self._primes_L1, degree // CHUNK)
        inner_LW -= self._primes_L1 * (inner_LW > self._primes_L1 // 2)
        low_LW = ((inner_LW + (1 << (_HALF - 1))) & ((1 << _HALF) - 1)) - (1 << (_HALF - 1))
        halves_L2W = np.stack((low_LW, (inner_LW - low_LW) >> _HALF), axis=1)
        self._inner_LW = torch.from_numpy(inner_LW.astype(np.float64)).to(device)
        self._halves_L2W = torch.from_numpy(halves_L2W.astype(np.float64)).to(device)

    def small_sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (..., L, C) of polynomials (..., N) in float64 with coefficients up to ``SMALL``, for every prime."""
        return self._inner_LW @ _chunks(values)

    def small_sums_at(self, values: torch.Tensor, index: int) -> torch.Tensor:
        """The same for one prime: (..., C)."""
        return (self._inner_LW[index : index + 1] @ _chunks(values)).squeeze(-2)

    def residue_sums(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (..., l, 2, C) of residues (..., l, N) in float64, below 2^30, for the first l primes."""
        return self._halves_L2W[: values.shape[-2]] @ _chunks(values)

    def residue_sums_at(self, values: torch.Tensor, index: int) -> torch.Tensor:
        """The same of residues (..., N) modulo one prime: (..., 2, C)."""
        return self._halves_L2W[index] @ _chunks(values)

    def small_values(self, sums: torch.Tensor) -> IntArray:
        """Values (..., L) of small polynomials from their sums (..., L, C)."""
        return self._joined(sums.cpu().numpy().astype(np.int64))

    def residue_values(self, sums: torch.Tensor) -> IntArray:
        """Values (..., l) of residues from their sums (..., l, 2, C)."""
        halves = sums.cpu().numpy().astype(np.int64)
        high = halves[..., 1, :] % self._primes_L1[: halves.shape[-3]]
        return self._joined(halves[..., 0, :] + (high << _HALF))

    def _joined(self, sums_LC: IntArray) -> IntArray:
        primes_L1 = self._primes_L1[: sums_LC.shape[-2]]
        terms = sums_LC % primes_L1 * self._outer_LC[: len(primes_L1)] % primes_L1
        values: IntArray = terms.sum(axis=-1) % primes_L1[:, 0]
        return values

    def reduced(self, values: IntArray) -> IntArray:
        """Integers (..., l) modulo the first l primes."""
        remainder: IntArray = values % self._primes_L1[: values.shape[-1], 0]
        return remainder

    def require_equal(self, found: IntArray, expected: IntArray, what: str) -> None:
        """Compare values (..., l) of a product with what they should be modulo the primes.

        Raises:
            InternalError: they differ.
        """
        if self.reduced(found - expected).any():
            raise InternalError(
                f"{what} is wrong: its value at a random point is not that of its factors",
                remedy="run again; if it happens again, test the memory of this machine and reinstall torch",
            )


def _chunks(values: torch.Tensor) -> torch.Tensor:
    """Polynomials (..., N) as (..., W, C): products by this side of a matrix are the fast ones."""
    return values.reshape(*values.shape[:-1], -1, CHUNK).transpose(-1, -2)


def _random_root(prime: int, degree: int) -> int:
    """A uniform root of X^N + 1 modulo a prime that is 1 modulo 2 N."""
    while True:
        root = pow(1 + secrets.randbelow(prime - 1), (prime - 1) // (2 * degree), prime)
        if pow(root, degree, prime) == prime - 1:
            return root


def _powers(bases: list[int], primes_L1: IntArray, count: int) -> IntArray:
    """b^0 to b^(count - 1) for each base, modulo its prime: (L, count), count a power of two."""
    powers = np.ones((len(bases), 1), dtype=np.int64)
    step = np.array(bases)[:, None]
    while powers.shape[1] < count:
        powers = np.concatenate((powers, powers * step % primes_L1), axis=1)
        step = step * step % primes_L1
    return powers
