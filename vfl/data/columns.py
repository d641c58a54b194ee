"""One column of a table, read as numbers, as categories or as parts of dates. Ids are read in ``row_ids.py``."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict

from vfl.data.config import ColumnKind, ColumnUse, DatePart
from vfl.data.dates import parse_dates, part_of
from vfl.data.numbers import NumberStyle, parse_plain, without_missing
from vfl.data.sources.files import Source
from vfl.errors import DataError

_PUNCTUATION = r"^[^\p{L}\p{N}]{1,8}$"


class ColumnReading(BaseModel):
    """How a feature column is read: kept with the model, so that later tables are read the same way.

    Attributes:
        use: its kind, or parts of a date.
        style: how numbers in text are written; None for numbers as programs write them.
        date_format: of dates in text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    use: ColumnUse
    style: NumberStyle | None = None
    date_format: str | None = None

    @property
    def numeric_names(self) -> tuple[str, ...]:
        """Names of the numeric columns that it gives: itself, or one for each part of a date."""
        if isinstance(self.use, tuple):
            return tuple(f"{self.name}.{part}" for part in self.use)
        return (self.name,) if self.use is ColumnKind.NUMERIC else ()

    @property
    def described(self) -> str:
        """Its kind, in words."""
        return f"date: {', '.join(self.use)}" if isinstance(self.use, tuple) else str(self.use)


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

    def to_numeric(self, style: NumberStyle | None = None) -> npt.NDArray[np.float64]:
        """(n,) values, NaN where missing. Whole numbers beyond 2^53 are rounded to the nearest double.

        Raises:
            DataError: values that are not numbers; infinite values.
        """
        if self.values.dtype.is_temporal():
            raise self.is_date()
        if is_text(self.values.dtype):
            text = self.as_text()
            numbers = parse_plain(text) if style is None else style.parse(text)
            bad = without_missing(text).is_not_null() & numbers.is_null()
        elif self.values.dtype.is_numeric() or self.values.dtype in (pl.Boolean, pl.Null):
            numbers, bad = self.values.cast(pl.Float64), pl.repeat(False, self.values.len(), eager=True)
        else:
            raise self._unusable_type()
        if bad.any():
            raise DataError(
                "a numeric column contains values that are not numbers",
                detail=self.place(self.count(bad, "not numbers")),
                remedy="correct the values, leave unknown ones empty, or declare the column categorical",
            )
        if numbers.is_infinite().any():
            raise DataError(
                "a numeric column contains infinite values",
                detail=self.place(self.count(numbers.is_infinite(), "infinite")),
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
        return np.array(self.as_text().to_list(), dtype=np.object_)

    def to_parts(self, parts: tuple[DatePart, ...], date_format: str | None) -> list[npt.NDArray[np.float64]]:
        """One (n,) array for each part, NaN where missing.

        Raises:
            DataError: values that are no dates, or not of this format.
        """
        moments = self.values
        if is_text(moments.dtype):
            text = self.as_text()
            moments = parse_dates(text, date_format or "")
            bad = text.is_not_null() & moments.is_null()
            if bad.any():
                raise DataError(
                    "a column of dates contains values that are no dates of one format",
                    detail=self.place(self.count(bad, f"not of the format '{date_format}'")),
                    remedy="correct the values, or set date_format in [data] of party.toml, as in strptime",
                )
        elif not (moments.dtype in (pl.Date, pl.Null) or isinstance(moments.dtype, pl.Datetime)):
            raise DataError(
                "a column is declared as a date, and holds none",
                detail=self.place(f"type {moments.dtype}"),
                remedy="correct its entry in 'columns', or 'time_column'",
            )
        moments = moments.cast(pl.Datetime("us")) if moments.dtype == pl.Null else moments
        return [part_of(moments, part).fill_null(float("nan")).to_numpy() for part in parts]

    def as_text(self) -> pl.Series:
        """(n,) texts without surrounding white space, null where missing."""
        values = self.values
        if values.dtype.is_float():
            text = values.fill_nan(None).cast(pl.String)
            return text.str.strip_suffix(".0")
        # Stripped here too: columns of Parquet's dictionary types are not text columns when the file is read.
        return values.cast(pl.String).str.strip_chars().replace("", None)

    def place(self, what: str) -> str:
        """What is the matter with this column, for the ``detail`` of an error."""
        return f"{self.source.path}, column '{self.name}': {what}"

    def count(self, bad: pl.Series, what: str) -> str:
        """How many values are bad, and where the first one is. Marks such as "?" are quoted, as no row's value."""
        bad = bad.fill_null(False)
        first = self.source.positions[int(bad.to_numpy().argmax())]
        marks = self.values.filter(bad).drop_nulls().cast(pl.String).unique().sort()
        shown = ""
        if 1 <= marks.len() <= 3 and marks.str.contains(_PUNCTUATION).all():
            stated = ", ".join(f'"{mark}"' for mark in marks)
            shown = f"; if they stand for missing values, set missing = [{stated}] in [data]"
        return f"{bad.sum()} of {bad.len()} values are {what}, first in {self.source.unit} {first}{shown}"

    def is_date(self) -> DataError:
        """What is offered for a column of dates that nothing was declared for."""
        return DataError(
            "a column contains dates or times, and nothing says what to read from them",
            detail=self.place(f"type {self.values.dtype}")
            + f'; for instance columns = {{ {toml_key(self.name)} = ["days", "weekday"] }}',
            remedy="declare in 'columns' of [data] in party.toml which numbers to use (days, year, month, day, "
            "weekday, hour), or list the column in 'drop'",
        )

    def _unusable_type(self) -> DataError:
        return DataError(
            "a column has a type that is neither numeric nor categorical",
            detail=self.place(f"type {self.values.dtype}"),
            remedy="list the column in 'drop', or export numbers or text instead",
        )


def toml_key(name: str) -> str:
    """A column's name as a key of TOML."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def is_text(dtype: pl.DataType) -> bool:
    """Whether values of this type are text."""
    return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
