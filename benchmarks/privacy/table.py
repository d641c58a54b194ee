"""Means with their intervals, and the table that is printed."""

from __future__ import annotations

import statistics
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Row:
    """One measured quantity.

    Attributes:
        mean: over all values.
        half_width: of the interval at ``CONFIDENCE``; None where there is a single group.
        values: how many there are.
    """

    table: str
    what: str
    mean: float
    half_width: float | None
    values: int

    def __str__(self) -> str:
        interval = "" if self.half_width is None else f" ± {self.half_width:.4f}"
        return f"{self.table:<15} {self.what:<72} {self.mean:9.4f}{interval:<10} (n = {self.values})"


def row(table: str, what: str, values: Sequence[tuple[Hashable, float]]) -> Row:
    """Summarize values, each with the group that it belongs to.

    Values of a group, such as draws of noise on one split, are not independent of each other: the interval is that of
    the groups' means, by Student's t.
    """
    groups: dict[Hashable, list[float]] = {}
    for group, value in values:
        groups.setdefault(group, []).append(value)
    means = [statistics.fmean(group) for group in groups.values()]
    half_width = None
    if len(means) > 1:
        half_width = _quantile(len(means) - 1) * statistics.stdev(means) / len(means) ** 0.5
    return Row(table, what, statistics.fmean(value for _, value in values), half_width, len(values))


def _quantile(freedom: int) -> float:
    from scipy.stats import t  # scikit-learn, which the attacks need, brings it along

    quantile: Any = t.ppf(0.5 + CONFIDENCE / 2, freedom)
    return float(quantile)
