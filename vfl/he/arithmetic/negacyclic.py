"""Polynomials modulo X^N + 1 in floating point: complex transforms of length N/2 by folding X^(N/2) = i."""

from __future__ import annotations

import math
from functools import lru_cache

import torch


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
