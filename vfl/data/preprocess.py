"""From a table to tensors: imputation, standardization and category codes, fitted on the training rows only."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from vfl.data.columns import ColumnReading
from vfl.data.table import Table
from vfl.errors import DataError
from vfl.models.config import BottomInputs

CLIP_STD = 8.0
"""Standardized values are clipped to this many standard deviations, so one outlier cannot saturate a model."""


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """Model inputs of n rows.

    Attributes:
        numeric: (n, p') float32, all finite and within ±8: standardized columns, then missing-indicators (0 or 1) of
            some of them, see ``Preprocessor.inputs``.
        categorical: (n, c) int64 codes, each below the cardinality of its column; 0 is unknown or missing.
    """

    numeric: torch.Tensor
    categorical: torch.Tensor

    def __len__(self) -> int:
        return self.numeric.shape[0]

    def __repr__(self) -> str:
        return f"Features(numeric={tuple(self.numeric.shape)}, categorical={tuple(self.categorical.shape)})"

    def select(self, rows: npt.NDArray[np.int64]) -> Features:
        """The rows at these positions, in this order."""
        index = torch.from_numpy(rows)
        return Features(self.numeric[index], self.categorical[index])


def _strictly_ascending(values: tuple[str, ...]) -> tuple[str, ...]:
    if any(low >= high for low, high in pairwise(values)):
        raise ValueError("categories must be sorted and distinct")
    return values


class _Fitted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NumericScale(_Fitted):
    """Scale of a numeric column, ``(value - mean) / std``, and whether values were missing in the training rows."""

    name: str
    mean: FiniteFloat
    std: Annotated[FiniteFloat, Field(gt=0)]
    has_missing: bool


class Vocabulary(_Fitted):
    """Categories of a column in the order of their codes, which start at 1."""

    name: str
    categories: Annotated[tuple[str, ...], AfterValidator(_strictly_ascending)] = Field(repr=False)


class Preprocessor(_Fitted):
    """Preprocessing fitted on the training rows.

    It contains values of the table (means, categories), so it stays at the party, in its own checkpoint.

    Attributes:
        readings: how the columns of a table are read before they are scaled.
    """

    version: Literal[2] = 2
    readings: tuple[ColumnReading, ...] = Field(repr=False)
    numeric: tuple[NumericScale, ...] = Field(repr=False)
    categorical: tuple[Vocabulary, ...] = Field(repr=False)

    @classmethod
    def fit(cls, table: Table, rows: npt.NDArray[np.int64]) -> Preprocessor:
        """Fit scales and vocabularies.

        Args:
            table: n rows.
            rows: positions of the training rows; the others have no influence.

        Raises:
            DataError: no training rows, or values too large to be averaged.
        """
        if len(rows) == 0:
            raise DataError("there are no training rows to fit the preprocessing on", remedy="provide more rows")
        training = table.select(rows)
        scales = [
            _fit_scale(name, column) for name, column in zip(table.numeric_names, training.numeric.T, strict=True)
        ]
        vocabularies = [
            Vocabulary(name=name, categories=tuple(sorted(set(column) - {None})))
            for name, column in zip(table.categorical_names, training.categorical.T, strict=True)
        ]
        return cls(readings=table.understood.readings, numeric=tuple(scales), categorical=tuple(vocabularies))

    @property
    def numeric_width(self) -> int:
        """p': numeric columns plus missing indicators."""
        return len(self.numeric) + sum(scale.has_missing for scale in self.numeric)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each categorical column, including code 0."""
        return tuple(len(vocabulary.categories) + 1 for vocabulary in self.categorical)

    @property
    def inputs(self) -> BottomInputs:
        """What a bottom model is built for."""
        return BottomInputs(
            self.numeric_width,
            self.cardinalities,
            tuple(position for position, scale in enumerate(self.numeric) if scale.has_missing),
            (*(scale.name for scale in self.numeric), *(vocabulary.name for vocabulary in self.categorical)),
        )

    def transform(self, table: Table) -> Features:
        """Standardize, replace missing values by the training mean, and encode. Works for any rows, seen or not.

        Raises:
            DataError: the feature columns differ from those that it was fitted on.
        """
        self._check_columns(table)
        numeric = np.zeros((len(table), self.numeric_width), dtype=np.float32)
        missing = np.isnan(table.numeric)
        for position, scale in enumerate(self.numeric):
            numeric[:, position] = _standardize(table.numeric[:, position], scale)
        indicated = [position for position, scale in enumerate(self.numeric) if scale.has_missing]
        numeric[:, len(self.numeric) :] = missing[:, indicated]
        codes = np.zeros((len(table), len(self.categorical)), dtype=np.int64)
        for position, vocabulary in enumerate(self.categorical):
            code_of = {category: code for code, category in enumerate(vocabulary.categories, start=1)}
            codes[:, position] = [code_of.get(value, 0) for value in table.categorical[:, position]]
        return Features(torch.from_numpy(numeric), torch.from_numpy(codes))

    def to_json(self) -> str:
        """Text from which ``from_json`` creates an equal preprocessor, bit for bit."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: the text is not valid.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            places = [f"{'.'.join(map(str, problem['loc'])) or 'text'}: {problem['msg']}" for problem in problems]
            raise DataError(
                "the stored preprocessing cannot be read",
                detail="; ".join(places[:5]),
                remedy="use the unmodified checkpoint with the version of vfl that wrote it",
            ) from None

    def _check_columns(self, table: Table) -> None:
        kinds = (
            ("numeric", table.numeric_names, self.numeric),
            ("categorical", table.categorical_names, self.categorical),
        )
        for kind, found, fitted in kinds:
            expected = tuple(column.name for column in fitted)
            if found != expected:
                raise DataError(
                    "the feature columns differ from those that the preprocessing was fitted on",
                    detail=f"{kind} columns are {list(found)}, expected {list(expected)}",
                    remedy="export the same columns in the same order, or declare them and their kinds in 'columns'",
                )


def _fit_scale(name: str, column: npt.NDArray[np.float64]) -> NumericScale:
    present = column[~np.isnan(column)]
    has_missing = len(present) < len(column)
    if len(present) == 0:
        return NumericScale(name=name, mean=0.0, std=1.0, has_missing=True)
    if present.min() == present.max():  # rounding could give a tiny deviation, which would blow up the values
        return NumericScale(name=name, mean=float(present[0]), std=1.0, has_missing=has_missing)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = float(present.mean()), float(present.std())
    if not (np.isfinite(mean) and np.isfinite(std)):
        raise DataError(
            "a numeric column contains values that are too large to standardize",
            detail=f"column '{name}': mean or standard deviation is beyond the range of a double",
            remedy="rescale the column",
        )
    return NumericScale(name=name, mean=mean, std=std or 1.0, has_missing=has_missing)


def _standardize(column: npt.NDArray[np.float64], scale: NumericScale) -> npt.NDArray[np.float64]:
    with np.errstate(over="ignore"):  # an overflow is clipped like any outlier
        standardized = np.clip((column - scale.mean) / scale.std, -CLIP_STD, CLIP_STD)
    return np.where(np.isnan(column), 0.0, standardized)
