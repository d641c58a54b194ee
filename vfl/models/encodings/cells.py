"""Which cells a table gets: bins, categories and buckets per column, within a budget.

Nothing here depends on the number of threads or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vfl.models.config import BottomInputs, EncodingsBottom
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.models")
_FEWEST_BUCKETS = 2

Codes = npt.NDArray[np.int64]


class TrainingFeatures(Protocol):
    """Preprocessed features of the training rows: (n, p) float32 and (n, c) int64 codes."""

    @property
    def numeric(self) -> Tensor: ...  # noqa: D102
    @property
    def categorical(self) -> Tensor: ...  # noqa: D102


@dataclass(frozen=True)
class Resolution:
    """How finely columns are encoded.

    Attributes:
        bins: at most this many per numeric column.
        one_hot: categorical columns of more categories are hashed.
        buckets: of each hashed column.
    """

    bins: int
    one_hot: int
    buckets: int


@dataclass(frozen=True, eq=False)
class NumericColumn:
    """Quantiles of one numeric column.

    Attributes:
        position: of the column in the numeric input.
        indicator: position of its missing-indicator; -1 for none.
        edges: by number of bins, from 1: the bins' edges in strictly ascending order; one edge or none is no bin.
        sometimes_missing: some training rows lack a value, and some do not.
    """

    position: int
    indicator: int
    edges: tuple[npt.NDArray[np.float64], ...]
    sometimes_missing: bool


@dataclass(frozen=True, eq=False)
class CategoricalColumn:
    """Codes of one categorical column.

    Attributes:
        counts: (n_j,) training rows of each code; code 0 is missing or unknown.
        all_different: no two training rows have the same category.
    """

    counts: Codes
    all_different: bool

    @property
    def categories(self) -> int:
        """Number of categories in the training rows; missing is not counted."""
        return int(np.count_nonzero(self.counts[1:]))

    def is_hashed(self, resolution: Resolution) -> bool:
        """Whether categories share buckets."""
        return self.all_different or self.categories > resolution.one_hot

    def cells(self, resolution: Resolution) -> tuple[Codes, int]:
        """For each code its cell (n_j,), -1 for none, and the number of cells.

        Missing has its own cell. Cells that would be the same in all training rows are left out.
        """
        group = np.arange(len(self.counts))
        if self.is_hashed(resolution):
            group[1:] = 1 + hash_codes(group[1:]) % np.uint64(resolution.buckets)
        rows = np.bincount(group, weights=self.counts)
        varies = (rows > 0) & (rows < self.counts.sum())
        numbers = np.where(varies, np.cumsum(varies) - 1, -1)
        return numbers[group], int(varies.sum())


@dataclass(frozen=True, eq=False)
class Columns:
    """What the choice of cells depends on."""

    numeric: tuple[NumericColumn, ...]
    categorical: tuple[CategoricalColumn, ...]

    def cell_count(self, resolution: Resolution) -> int:
        """Number of cells at this resolution."""
        return sum(self.cells_by_column(resolution))

    def cells_by_column(self, resolution: Resolution) -> list[int]:
        """Number of cells of each column, numeric ones first."""
        numeric = [
            max(0, len(column.edges[resolution.bins - 1]) - 1) + column.sometimes_missing for column in self.numeric
        ]
        return numeric + [column.cells(resolution)[1] for column in self.categorical]


def survey(config: EncodingsBottom, inputs: BottomInputs, training: TrainingFeatures) -> Columns:
    """Collect quantiles and counts of the training rows."""
    own = inputs.numeric_width - len(inputs.indicated)
    indicators = {position: own + at for at, position in enumerate(inputs.indicated)}
    numeric = training.numeric.numpy()
    values = []
    for position in range(own):
        column, indicator = numeric[:, position], indicators.get(position, -1)
        present = column if indicator < 0 else column[numeric[:, indicator] <= 0.5]
        edges = tuple(quantile_edges(np.sort(present), config.bins))
        values.append(NumericColumn(position, indicator, edges, 0 < len(present) < len(column)))
    codes = training.categorical.numpy()
    counts = [np.bincount(codes[:, at], minlength=size) for at, size in enumerate(inputs.cardinalities)]
    rows = len(numeric)
    return Columns(
        tuple(values),
        tuple(CategoricalColumn(count, rows > 1 and np.count_nonzero(count[1:]) == rows) for count in counts),
    )


def quantile_edges(ascending: npt.NDArray[np.float32], most: int) -> Iterator[npt.NDArray[np.float64]]:
    """Edges of 1, 2, ..., ``most`` bins between quantiles, ties merged.

    An edge is the value of a row, never a mean of two: a column of two values has one bin, however they are mixed.
    """
    last = len(ascending) - 1
    for bins in range(1, most + 1):
        ranks = (2 * np.arange(bins + 1) * last + bins) // (2 * bins)
        yield np.unique(ascending[ranks] if last >= 0 else ascending).astype(np.float64)


def choose_resolution(config: EncodingsBottom, columns: Columns) -> Resolution:
    """The finest resolution within the budget: first fewer bins, then fewer buckets; else the coarsest there is."""
    resolution = Resolution(config.bins, config.one_hot, config.buckets)
    while columns.cell_count(resolution) > config.max_width:
        if resolution.bins > 1:
            resolution = replace(resolution, bins=resolution.bins - 1)
        elif resolution.buckets > _FEWEST_BUCKETS:
            fewer = max(_FEWEST_BUCKETS, min(resolution.buckets, resolution.one_hot) // 2)
            resolution = replace(resolution, one_hot=min(resolution.one_hot, fewer), buckets=fewer)
        else:
            break
    return resolution


def lay_out(columns: Columns, resolution: Resolution) -> dict[str, Tensor]:
    """The arrays of an ``EncodingsNetwork`` that define its cells."""
    empty = np.empty(0)
    bins = [(column, column.edges[resolution.bins - 1]) for column in columns.numeric]
    lower = np.concatenate([empty, *(edges[:-1] for _, edges in bins)])
    upper = np.concatenate([empty, *(edges[1:] for _, edges in bins)])
    of_cell = [column for column, edges in bins for _ in edges[1:]]
    missing = [column.indicator for column in columns.numeric if column.sometimes_missing]
    category, used = [np.empty(0, dtype=np.int64)], 0
    for column in columns.categorical:
        cells, count = column.cells(resolution)
        category.append(np.where(cells < 0, -1, cells + used))
        used += count
    return {
        "column": torch.tensor([column.position for column in of_cell], dtype=torch.int64),
        "indicator": torch.tensor([column.indicator for column in of_cell], dtype=torch.int64),
        "lower": torch.from_numpy(lower),
        "slope": torch.from_numpy(1.0 / (upper - lower)),
        "missing": torch.tensor(missing, dtype=torch.int64),
        "category": torch.from_numpy(np.concatenate(category)),
    }


def report(inputs: BottomInputs, columns: Columns, resolution: Resolution) -> None:
    """Log what an operator should look at: columns without cells, and identifiers in disguise. Names, no values."""
    names = inputs.names or (
        *(f"numeric column {at}" for at in range(len(columns.numeric))),
        *(f"categorical column {at}" for at in range(len(columns.categorical))),
    )
    without = [name for name, cells in zip(names, columns.cells_by_column(resolution), strict=True) if not cells]
    if without:
        _log.warning("columns with the same value in all training rows are not encoded", columns=without)
    for name, column in zip(names[len(columns.numeric) :], columns.categorical, strict=True):
        if column.all_different:
            _log.warning(
                "a column with a different category in every row looks like an identifier: its categories are hashed",
                column=name,
                remedy="add it to 'drop' in [data] of party.toml",
            )


def hash_codes(codes: Codes) -> npt.NDArray[np.uint64]:
    """Mix codes by the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = codes.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
