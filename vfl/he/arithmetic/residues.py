"""Arithmetic on ciphertext polynomials as residues modulo the data primes: int64 tensors (..., L, N).

Everything except ``nearest_zero`` is integer arithmetic below 2^63; everything is exact.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from vfl.he.parameters import Parameters
from vfl.runtime.randomness import uniform_words

LIMB_BITS = 30


@lru_cache(maxsize=32)
def prime_column(parameters: Parameters, level: int) -> torch.Tensor:
    """The first ``level`` primes as a tensor (level, 1), to broadcast over coefficients."""
    return torch.tensor(parameters.primes[:level], dtype=torch.int64).unsqueeze(1)


def centered(residues: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """Representatives of absolute value at most (q - 1) / 2 of residues in [0, q), q odd."""
    return residues - primes * (residues > primes // 2)


def nearest_zero(values: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """Integers up to ``rounding.REDUCIBLE`` in float64, (..., L, N), modulo the primes, at most q / 2 + 4; exact."""
    # Multiplying by the inverse may miss the nearest multiple, but only if the next one is as near.
    nearest = (values * primes.to(torch.float64).reciprocal_()).round_()
    return nearest.mul_(-primes).add_(values)


def nonnegative(values: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """What ``nearest_zero`` returns, (..., L, N), as residues in int64."""
    center = values.to(torch.int64)
    return center.add_((center >> 63).bitwise_and_(primes))


def reduce_in_place(values: torch.Tensor, prime: int, scratch: torch.Tensor) -> torch.Tensor:
    """Integers up to ``rounding.REDUCIBLE`` in float64 to representatives of absolute value below ``prime``; exact.

    Args:
        scratch: overwritten; of the shape of ``values``.
    """
    torch.mul(values, 1 / prime, out=scratch).round_()
    return values.sub_(scratch, alpha=prime)


def scaled_plaintext(parameters: Parameters, values: npt.NDArray[np.int64], level: int) -> torch.Tensor:
    """round(q m / t) modulo every prime, for m in Z_t: what is added to a ciphertext to add m to its plaintext.

    With q = Delta t + r this is Delta m + floor((r m + t/2) / t). Rounding, rather than Delta m, keeps the error
    below 1/2 whatever m is, so no term (q mod t) * wraps arises later.

    Args:
        values: any integers; taken modulo t.
        level: number of primes of the ciphertext.

    Returns:
        (..., level, N) residues.
    """
    half = parameters.tau // 2
    low_mask = (1 << half) - 1
    m = torch.from_numpy(values & (parameters.t - 1))
    delta, remainder = divmod(parameters.modulus(level), parameters.t)
    r_high, r_low = remainder >> half, remainder & low_mask
    m_high, m_low = m >> half, m & low_mask
    cross = m_high * r_low + m_low * r_high
    carry = ((cross & low_mask) << half) + m_low * r_low + (parameters.t >> 1)
    rounding = m_high * r_high + (cross >> half) + (carry >> parameters.tau)
    # Halves of m are below 2^29 and the weights below 2^30, so the sum needs reducing only once.
    total = m_low.unsqueeze(-2) * _weights(parameters, delta, level)
    total += m_high.unsqueeze(-2) * _weights(parameters, delta << half, level)
    return total.add_(rounding.unsqueeze(-2)).remainder_(prime_column(parameters, level))


def flooding_noise(parameters: Parameters, shape: tuple[int, ...], bits: int, level: int) -> torch.Tensor:
    """Uniform integers in [-2^bits, 2^bits) from the operating system's generator, modulo every prime.

    Args:
        shape: (..., N).

    Returns:
        (..., level, N) residues.
    """
    total = -_weights(parameters, 1 << bits, level)
    for start in range(0, bits + 1, LIMB_BITS):
        width = min(LIMB_BITS, bits + 1 - start)
        limb = torch.from_numpy(uniform_words(shape, width)).unsqueeze(-2)
        # At most four products below 2^60 are added up before reducing.
        total = total + limb * _weights(parameters, 1 << start, level)
    return total.remainder_(prime_column(parameters, level))


def drop_primes(parameters: Parameters, residues: torch.Tensor, level: int) -> torch.Tensor:
    """Modulus switching: divide by the last primes in turn, rounding each time, leaving ``level`` primes.

    Args:
        residues: (..., L, N) with L > level, or L == level (returned unchanged).
    """
    while (current := residues.shape[-2]) > level:
        last = parameters.primes[current - 1]
        tail = residues[..., -1:, :]
        tail = tail - last * (tail > last // 2)
        inverses = [pow(last, -1, q) for q in parameters.primes[: current - 1]]
        difference = residues[..., :-1, :] - tail
        difference *= torch.tensor(inverses, dtype=torch.int64).unsqueeze(1)
        residues = difference.remainder_(prime_column(parameters, current - 1))
    return residues


@lru_cache(maxsize=256)
def _weights(parameters: Parameters, value: int, level: int) -> torch.Tensor:
    """A big integer modulo the first ``level`` primes: (level, 1)."""
    return torch.tensor([value % q for q in parameters.primes[:level]], dtype=torch.int64).unsqueeze(1)
