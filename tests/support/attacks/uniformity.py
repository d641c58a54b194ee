"""A distinguisher: does a sample look uniform over a power-of-two range or modulo a prime?"""

from __future__ import annotations

import numpy as np

BINS = 64
THRESHOLD = 10.0
"""Standard deviations of the chi-square statistic. Uniform samples reach this once in more than 10^14 tests."""


def looks_uniform(values: np.ndarray, modulus: int) -> bool:
    """Chi-square over the leading part of the range and, for powers of two, over the lowest bits.

    Args:
        modulus: a power of two up to 2^62, or any number below 2^56.
    """
    flat = np.asarray(values).astype(np.int64).ravel() % modulus
    if modulus % BINS:
        return _even(flat * BINS // modulus)
    return _even(flat // (modulus // BINS)) and _even(flat % BINS)


def _even(bins: np.ndarray) -> bool:
    expected = bins.size / BINS
    if expected < 5:
        raise ValueError("too few values for a chi-square test")
    statistic = float(((np.bincount(bins, minlength=BINS) - expected) ** 2 / expected).sum())
    return abs(statistic - (BINS - 1)) < THRESHOLD * (2 * (BINS - 1)) ** 0.5
