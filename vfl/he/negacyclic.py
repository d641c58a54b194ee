"""Polynomials modulo X^N + 1 in floating point: complex transforms of length N/2 by folding X^(N/2) = i."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

UNIT = 2.0**-53
"""Rounding unit of float64."""


@lru_cache(maxsize=8)
def _twist(degree: int, device: torch.device) -> torch.Tensor:
    """exp(i pi j / N) for j below N/2: turns reduction modulo X^(N/2) - i into a cyclic transform."""
    angle = torch.arange(degree // 2, dtype=torch.float64) * (math.pi / degree)
    return torch.polar(torch.ones_like(angle), angle).to(device)


def transform(values: torch.Tensor) -> torch.Tensor:
    """Real coefficients (..., N), float64, to N/2 complex values; products become elementwise."""
    degree = values.shape[-1]
    folded = torch.complex(values[..., : degree // 2].contiguous(), values[..., degree // 2 :].contiguous())
    spectrum: torch.Tensor = torch.fft.fft(folded.mul_(_twist(degree, values.device)))
    return spectrum


def inverse_transform(spectrum: torch.Tensor) -> torch.Tensor:
    """Inverse of ``transform``, rounded to integers: (..., N), float64."""
    folded = torch.fft.ifft(spectrum)
    degree = 2 * folded.shape[-1]
    folded.mul_(_twist(degree, spectrum.device).conj())
    return torch.cat((folded.real, folded.imag), dim=-1).round_()


def product_error(degree: int, first_norm: float, second_norm: float, terms: int = 1) -> float:
    """Bound on the distance between a product of polynomials through transforms and the true integers.

    Brent, Percival and Zimmermann (Math. Comp. 76, 2007, theorem 5.1): transforms of length 2^n err by less than
    |x| |y| ((1+e)^(3n) (1+e sqrt 5)^(3n+1) (1+m)^(3n) - 1), with Euclidean norms, e the rounding unit and m the error
    of the roots of unity (here within 2 e).

    Args:
        first_norm, second_norm: bounds on the Euclidean norms of the factors.
        terms: how many products are added up before the inverse transform.
    """
    n = int(math.log2(degree // 2)) + 1
    growth = (1 + UNIT) ** (3 * n) * (1 + UNIT * math.sqrt(5)) ** (3 * n + 1) * (1 + 2 * UNIT) ** (3 * n) - 1
    return terms * first_norm * second_norm * (growth + terms * UNIT)
