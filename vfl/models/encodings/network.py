"""The frozen network of an 'encodings' bottom: features to cells to alpha, from fitted arrays alone.

Shape suffixes: B rows; V value cells; M cells in all; D width of the output.

All sums are exact. Cells are integers times 2^-20, and each column of the weights consists of 31-bit integers times a
power of two, so that every partial sum fits the 53 bits of a double. The same row therefore gives the same bits in any
batch, with any number of threads, and on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from vfl.errors import ModelError
from vfl.models.config import BottomInputs, EncodingsBottom

CELL_BITS = 20
"""Cells are multiples of 2^-20."""
WEIGHT_BITS = 31
"""The absolute weights of one output add up to less than this many bits."""
BLOCK_ROWS = 2048
"""Rows computed at once: they fit a cache, and sums of products of two cells are exact."""

_ARRAYS: dict[str, tuple[torch.dtype, int]] = {
    "column": (torch.int64, 1),
    "indicator": (torch.int64, 1),
    "lower": (torch.float64, 1),
    "slope": (torch.float64, 1),
    "missing": (torch.int64, 1),
    "category": (torch.int64, 1),
    "weight": (torch.float64, 2),
    "offset": (torch.float64, 1),
}


class EncodingsNetwork(nn.Module):
    """Piecewise-linear and one-hot cells, then a fixed linear map if whitening, clamped to [-1, 1].

    A value cell is ``clamp((x - lower) * slope, 0, 1)``: the encoding of Gorishniy, Rubachev and Babenko, "On
    Embeddings for Numerical Features in Tabular Deep Learning" (NeurIPS 2022), clamped at both ends. All value cells
    of a missing value are 0.

    A new network is empty: ``fit_encodings`` or ``load_state_dict`` provides its arrays, whose sizes follow from the
    table. It always computes on the CPU in float64; its arrays do not move to other devices or types. They hold values
    of training rows (the edges of bins), so they stay at the party, like the preprocessing.

    Attributes:
        column: (V,) numeric column of each value cell.
        indicator: (V,) numeric column that is 1 where this cell's column lacks a value; -1 for none.
        lower: (V,) where the cell's bin begins.
        slope: (V,) one over the width of the bin.
        missing: (U,) numeric columns that are missing-indicators with a cell of their own.
        category: (sum of the cardinalities,) for each code of each categorical column its cell, -1 for none.
        weight: (M, D) from cells to alpha; (0, 0) without whitening, where alpha is ``2 cell - 1``.
        offset: (D,) subtracted from the product; (0,) without whitening.
    """

    column: Tensor
    indicator: Tensor
    lower: Tensor
    slope: Tensor
    missing: Tensor
    category: Tensor
    weight: Tensor
    offset: Tensor

    def __init__(self, config: EncodingsBottom, inputs: BottomInputs) -> None:
        super().__init__()
        self._whiten = config.whiten
        self._inputs = inputs
        self._categories = 0
        for name, (dtype, dimensions) in _ARRAYS.items():
            self.register_buffer(name, torch.empty((0,) * dimensions, dtype=dtype))

    @property
    def cell_count(self) -> int:
        """M."""
        return len(self.column) + len(self.missing) + self._categories

    @property
    def width(self) -> int:
        """D; 0 before the network is fitted or loaded."""
        return self.weight.shape[1] if self._whiten else self.cell_count

    @torch.no_grad()
    def forward(self, numeric: Tensor, categorical: Tensor | None = None) -> Tensor:
        """(B, p) floats and (B, c) codes to (B, D) float32.

        Raises:
            ModelError: the network was neither fitted nor loaded.
        """
        if not self.width:
            raise ModelError(
                "the encodings are used before they are fitted",
                remedy="build the bottom from training rows, or load a saved one",
            )
        alpha_BD = torch.empty(len(numeric), self.width)
        for start in range(0, len(numeric), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            counts_BM = self.cell_counts(numeric[rows], None if categorical is None else categorical[rows])
            alpha_BD[rows] = self._output(counts_BM)
        return alpha_BD.to(numeric.device)

    def cell_counts(self, numeric: Tensor, categorical: Tensor | None = None) -> Tensor:
        """The cells (B, M) in units of 2^-20: integers as float64, from 0 to 2^20."""
        numeric = numeric.to("cpu", torch.float64)
        counts_BV = numeric[:, self.column].sub_(self.lower).mul_(self.slope)
        counts_BV.clamp_(0.0, 1.0).mul_(2.0**CELL_BITS).round_()
        if (self.indicator >= 0).any():
            never = numeric.new_zeros(len(numeric), 1)
            counts_BV.masked_fill_(torch.cat([numeric, never], dim=1)[:, self.indicator] > 0.5, 0.0)
        missing_BU = (numeric[:, self.missing] > 0.5).double().mul_(2.0**CELL_BITS)
        return torch.cat([counts_BV, missing_BU, self._category_counts(len(numeric), categorical)], dim=1)

    def _category_counts(self, rows: int, categorical: Tensor | None) -> Tensor:
        counts = torch.zeros(rows, 1 + self._categories, dtype=torch.float64)  # the first is for codes without a cell
        if categorical is not None and self._inputs.cardinalities:
            codes = categorical.to("cpu", torch.int64)
            cardinalities = torch.tensor(self._inputs.cardinalities)
            known = torch.where((codes >= 0) & (codes < cardinalities), codes, 0)
            cells = self.category[known + cardinalities.cumsum(0) - cardinalities] + 1
            counts.scatter_(1, cells, 2.0**CELL_BITS)
        return counts[:, 1:]

    def _output(self, counts_BM: Tensor) -> Tensor:
        if not self._whiten:
            return (counts_BM * 2.0 ** (1 - CELL_BITS)).sub_(1.0)
        return (counts_BM @ (self.weight * 2.0**-CELL_BITS)).sub_(self.offset).clamp_(-1.0, 1.0)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Leave the arrays as they are when the model is moved to a device or converted."""
        return self

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        *args: Any,  # the rest is of no interest here
    ) -> None:
        """Take over the sizes in the state, too, if its arrays fit together and belong to these columns."""
        error_msgs: list[str] = args[-1]
        found = {name: state_dict[prefix + name] for name in _ARRAYS if prefix + name in state_dict}
        for name, value in found.items():
            if (value.dtype, value.ndim) == _ARRAYS[name]:
                setattr(self, name, torch.empty(value.shape, dtype=value.dtype))
        before = len(error_msgs)
        super()._load_from_state_dict(state_dict, prefix, *args)
        if len(error_msgs) == before and len(found) == len(_ARRAYS):
            self._categories = int(self.category.max()) + 1 if len(self.category) else 0
            if problem := self._problem():
                error_msgs.append(f"the encodings were fitted to other columns or options: {problem}")

    def _problem(self) -> str:
        """What does not fit together; empty if nothing."""
        columns, codes = self._inputs.numeric_width, sum(self._inputs.cardinalities)
        bounds = {"column": (0, columns), "missing": (0, columns), "indicator": (-1, columns), "category": (-1, codes)}
        for name, (low, high) in bounds.items():
            values: Tensor = getattr(self, name)
            if len(values) and not low <= int(values.min()) <= int(values.max()) < high:
                return f"{name} is out of range"
        if len({len(self.column), len(self.indicator), len(self.lower), len(self.slope)}) > 1:
            return "the value cells differ in number"
        if len(self.category) != codes:
            return f"{len(self.category)} codes, expected {codes}"
        shape = (self.cell_count, len(self.offset)) if self._whiten else (0, 0)
        if tuple(self.weight.shape) != shape or (len(self.offset) > 0) > self._whiten:
            return f"weight is {tuple(self.weight.shape)}, expected {shape}"
        if not all(torch.isfinite(array).all() for array in (self.lower, self.slope, self.weight, self.offset)):
            return "a value is not finite"
        return ""
