"""How likely a sample is, if it was uniform: chi-square over the leading part and over the lowest bits."""

from __future__ import annotations

import numpy as np
import torch

BINS = 64


def uniform_p_values(values: np.ndarray, modulus: int) -> list[float]:
    """P-values of one or, for powers of two, two tests: each is below p with a probability of p, if uniform.

    Args:
        values: at least 5 for each of the bins; the approximation by the chi-square distribution is good from there.
        modulus: a power of two up to 2^62, or any number below 2^57.
    """
    flat = np.asarray(values).astype(np.int64).ravel() % modulus
    if modulus % BINS:
        return [_p_value(flat * BINS // modulus)]
    return [_p_value(flat // (modulus // BINS)), _p_value(flat % BINS)]


def _p_value(bins: np.ndarray) -> float:
    expected = bins.size / BINS
    if expected < 5:
        raise ValueError("too few values for a chi-square test")
    statistic = float(((np.bincount(bins, minlength=BINS) - expected) ** 2 / expected).sum())
    half = torch.tensor([(BINS - 1) / 2, statistic / 2], dtype=torch.float64)
    return float(torch.special.gammaincc(half[0], half[1]))
