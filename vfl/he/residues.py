"""Arithmetic on ciphertext polynomials as residues modulo the data primes: int64 tensors (..., L, N).

Everything here is integer arithmetic below 2^63 and therefore exact.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from vfl.he.parameters import Parameters
from vfl.randomness import uniform_words

LIMB_BITS = 30


@lru_cache(maxsize=32)
def prime_column(parameters: Parameters, level: int) -> torch.Tensor:
    """The first ``level`` primes as a tensor (level, 1), to broadcast over coefficients."""
    return torch.tensor(parameters.primes[:level], dtype=torch.int64).unsqueeze(1)


def centred(residues: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """Representatives in [-q/2, q/2) of residues in [0, q)."""
    return residues - primes * (residues > primes // 2)


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
    primes = prime_column(parameters, level)
    delta_column = torch.tensor([delta % q for q in parameters.primes[:level]], dtype=torch.int64).unsqueeze(1)
    return _times(m.unsqueeze(-2), delta_column, primes).add_(rounding.unsqueeze(-2)).remainder_(primes)


def flooding_noise(parameters: Parameters, shape: tuple[int, ...], bits: int, level: int) -> torch.Tensor:
    """Uniform integers in [-2^bits, 2^bits) from the operating system's generator, modulo every prime.

    Args:
        shape: (..., N).

    Returns:
        (..., level, N) residues.
    """
    primes = prime_column(parameters, level)
    total = torch.zeros((*shape[:-1], level, shape[-1]), dtype=torch.int64)
    for start in range(0, bits + 1, LIMB_BITS):
        width = min(LIMB_BITS, bits + 1 - start)
        limb = torch.from_numpy(uniform_words(shape, width)).unsqueeze(-2)
        weight = torch.tensor([pow(2, start, q) for q in parameters.primes[:level]], dtype=torch.int64).unsqueeze(1)
        total += _times(limb, weight, primes)
    offset = torch.tensor([pow(2, bits, q) for q in parameters.primes[:level]], dtype=torch.int64).unsqueeze(1)
    return (total - offset).remainder_(primes)


def drop_primes(parameters: Parameters, residues: torch.Tensor, level: int) -> torch.Tensor:
    """Modulus switching: round(c / (dropped primes)) for both polynomials, leaving ``level`` primes.

    Args:
        residues: (..., L, N) with L > level, or L == level (returned unchanged).
    """
    while (current := residues.shape[-2]) > level:
        primes = prime_column(parameters, current - 1)
        last = parameters.primes[current - 1]
        tail = residues[..., -1:, :]
        tail = tail - last * (tail > last // 2)
        inverse = torch.tensor([pow(last, -1, q) for q in parameters.primes[: current - 1]], dtype=torch.int64)
        difference = (residues[..., :-1, :] - tail).remainder_(primes)
        residues = _times(difference, inverse.unsqueeze(1), primes)
    return residues


def _times(values: torch.Tensor, factors: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """Product modulo the primes of values and factors in [0, 2^30] or, for values, in [0, 2^60) reduced first."""
    return (values.remainder(primes) * factors).remainder_(primes)
