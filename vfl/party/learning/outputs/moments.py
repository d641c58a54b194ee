"""Moments of a bottom's outputs, summed part by part over a table of any size.

Shape suffixes: B rows of a part, D bottom width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OutputMoments:
    """What noise and the range of Z depend on.

    Attributes:
        rows: how many.
        sum_D: of the outputs.
        products_DD: sum of each row's outer product with itself.
        largest_norm: of a row.
    """

    rows: int
    sum_D: Floats
    products_DD: Floats
    largest_norm: float

    @classmethod
    def of(cls, parts: Iterable[Floats], width: int) -> OutputMoments:
        """Moments of all rows of these parts (B, D)."""
        total = cls(0, np.zeros(width), np.zeros((width, width)), 0.0)
        for part_BD in parts:
            largest = float(np.linalg.norm(part_BD, axis=1).max(initial=0.0))
            total += cls(len(part_BD), part_BD.sum(axis=0), part_BD.T @ part_BD, largest)
        return total

    def __add__(self, other: OutputMoments) -> OutputMoments:
        return OutputMoments(
            self.rows + other.rows,
            self.sum_D + other.sum_D,
            self.products_DD + other.products_DD,
            max(self.largest_norm, other.largest_norm),
        )

    @property
    def second_moment(self) -> Floats:
        """Mean of each row's outer product with itself."""
        return self.products_DD / max(self.rows, 1)

    @property
    def covariance(self) -> Floats:
        """Covariance of the outputs; zero for a single row."""
        mean_D = self.sum_D / max(self.rows, 1)
        return self.second_moment - np.outer(mean_D, mean_D)
