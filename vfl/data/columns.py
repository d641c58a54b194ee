"""One column of a file, read as numbers or as categories. Ids are read in ``row_ids.py``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.config import ColumnKind
from vfl.data.sources.files import Source
from vfl.errors import DataError

_MISSING_NUMBERS = ("na", "n/a", "nan", "null", "none")
"""Treated as missing where a number is expected; ordinary categories in a categorical column ("NA": Namibia)."""

_DATE = r"^(\d{4}-\d{1,2}-\d{1,2}|\d{4}/\d{1,2}/\d{1,2}|\d{1,2}[./-]\d{1,2}[./-]\d{4})([T ]\d{1,2}:\d{2}.*)?$"


@dataclass(frozen=True, eq=False, repr=False)
class Column:
    """A column of n values. Errors give file, column, number of bad values and position of the first, but no value."""

    name: str
    values: pl.Series
    source: Source

    @classmethod
    def of(cls, source: Source, name: str) -> Column:
        """The column ``name`` of ``source``, which must exist."""
        return cls(name, source.frame.get_column(name), source)

    def infer_kind(self) -> ColumnKind:
        """Numbers are numeric, text and booleans categorical.

        Raises:
            DataError: dates; text that is mostly but not only numbers, where either guess could be wrong; types that
                are neither numeric nor categorical.
        """
        dtype = self.values.dtype
        if dtype.is_numeric() or dtype == pl.Null:
            return ColumnKind.NUMERIC
        if dtype == pl.String:
            return self._infer_kind_of_text()
        if dtype.is_temporal():
            raise self._is_date()
        return ColumnKind.CATEGORICAL  # to_categorical refuses unsuitable types

    def to_numeric(self) -> npt.NDArray[np.float64]:
        """(n,) values, NaN where missing. Whole numbers beyond 2^53 are rounded to the nearest double.

        Raises:
            DataError: values that are not numbers; infinite values.
        """
        if self.values.dtype.is_temporal():
            raise self._is_date()
        if is_text(self.values.dtype):
            numbers, bad = _parse_numbers(self._as_text())
        elif self.values.dtype.is_numeric() or self.values.dtype in (pl.Boolean, pl.Null):
            numbers, bad = self.values.cast(pl.Float64), pl.repeat(False, self.values.len(), eager=True)
        else:
            raise self._unusable_type()
        if bad.any():
            raise DataError(
                "a numeric column contains values that are not numbers",
                detail=self._place(self._count(bad, "not numbers")),
                remedy="correct the values, leave unknown ones empty, or declare the column categorical",
            )
        if numbers.is_infinite().any():
            raise DataError(
                "a numeric column contains infinite values",
                detail=self._place(self._count(numbers.is_infinite(), "infinite")),
                remedy="replace the values, or leave them empty",
            )
        return numbers.fill_null(float("nan")).to_numpy()

    def to_categorical(self) -> npt.NDArray[np.object_]:
        """(n,) texts, None where missing. A trailing ".0" of floats is removed, so 1 and 1.0 are the same category.

        Raises:
            DataError: the column holds composite values, such as lists, or binary data.
        """
        dtype = self.values.dtype
        if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
            raise self._unusable_type()
        return np.array(self._as_text().to_list(), dtype=np.object_)

    def _infer_kind_of_text(self) -> ColumnKind:
        present = self.values.drop_nulls()
        numbers, bad = _parse_numbers(present)
        if not bad.any():
            return ColumnKind.NUMERIC
        if present.str.contains(_DATE).all():
            raise self._is_date()
        if 2 * numbers.is_not_null().sum() > present.len():
            _, bad_rows = _parse_numbers(self.values)
            raise DataError(
                "cannot determine whether a column is numeric or categorical",
                detail=self._place(self._count(bad_rows, "not numbers, though most are")),
                remedy="correct the values, or declare the column's kind in 'columns'",
            )
        return ColumnKind.CATEGORICAL

    def _as_text(self) -> pl.Series:
        values = self.values
        if values.dtype.is_float():
            text = values.fill_nan(None).cast(pl.String)
            return text.str.strip_suffix(".0")
        # Stripped here too: columns of Parquet's dictionary types are not text columns when the file is read.
        return values.cast(pl.String).str.strip_chars().replace("", None)

    def _place(self, what: str) -> str:
        return f"{self.source.path}, column '{self.name}': {what}"

    def _count(self, bad: pl.Series, what: str) -> str:
        first = self.source.positions[int(bad.fill_null(False).to_numpy().argmax())]
        return f"{bad.sum()} of {bad.len()} values are {what}, first in {self.source.unit} {first}"

    def _is_date(self) -> DataError:
        return DataError(
            "a column contains dates or times, which cannot be used as features directly",
            detail=self._place(f"type {self.values.dtype}"),
            remedy="list the column in 'drop', or export a number instead (age in days, hour of day)",
        )

    def _unusable_type(self) -> DataError:
        return DataError(
            "a column has a type that is neither numeric nor categorical",
            detail=self._place(f"type {self.values.dtype}"),
            remedy="list the column in 'drop', or export numbers or text instead",
        )


def is_text(dtype: pl.DataType) -> bool:
    """Whether values of this type are text."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)


def _parse_numbers(text: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The numbers, null where there is none, and which values are neither a number nor a marker for a missing value."""
    present = text.set(text.str.to_lowercase().is_in(_MISSING_NUMBERS), None)
    numbers = present.cast(pl.Float64, strict=False)
    return numbers, present.is_not_null() & numbers.is_null()
