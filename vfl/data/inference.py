"""What each column is, where nothing is declared: numbers, categories, or nothing that a model could use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.columns import Column, ColumnReading, is_text, toml_key
from vfl.data.config import ColumnKind, ColumnUse, DataConfig
from vfl.data.dates import date_formats_of, look_like_dates
from vfl.data.numbers import Decimal, NumberStyle, parse_plain, styles_of, without_missing
from vfl.data.sources.files import Source
from vfl.errors import DataError
from vfl.runtime.progress import piece_finished

MANY_CATEGORIES = 100
"""From so many distinct texts on, a column is remarked on."""
NEARLY_ALL = 0.95
"""Share of the values from which a column counts as nearly blank, or its texts as nearly all different."""
_ENOUGH = 50
"""Fewer values say little about whether all are different."""


@dataclass(frozen=True)
class Understood:
    """What was made of the feature columns.

    Attributes:
        readings: of the columns that are used, in order.
        left_out: why others are not used, by name.
        remarks: what a person should look at, by name.
    """

    readings: tuple[ColumnReading, ...]
    left_out: Mapping[str, str]
    remarks: Mapping[str, str]


def understand(config: DataConfig, source: Source) -> Understood:
    """Determine how every feature column is read.

    Raises:
        DataError: a column of dates without a declaration; text that is mostly but not only numbers, where either guess
            could be wrong; a decimal mark that cannot be determined; types that are neither numeric nor categorical.
    """
    others = set(config.not_features)
    names = config.features or tuple(name for name in source.frame.columns if name not in others)
    styles = _Styles(config, source, names)
    readings, left_out, remarks = [], {}, {}
    for name in names:
        column, declared = Column.of(source, name), config.columns.get(name)
        chosen = declared is not None or config.features is not None
        reason = None if chosen else _why_left_out(column)
        if reason is not None:
            left_out[name] = reason
            continue
        reading, remark = _reading(column, declared, config, styles)
        readings.append(reading)
        if remark := remark or _remark(column, reading):
            remarks[name] = remark
        piece_finished()
    return Understood(tuple(readings), left_out, remarks)


def _reading(
    column: Column, declared: ColumnUse | None, config: DataConfig, styles: _Styles
) -> tuple[ColumnReading, str]:
    use, remark = (declared, "") if declared is not None else _inferred(column, styles)
    style = date_format = None
    if use is ColumnKind.NUMERIC and is_text(column.values.dtype):
        style = styles.of(column)
    if isinstance(use, tuple) and is_text(column.values.dtype):
        date_format = config.date_format or date_format_of(column)
    return ColumnReading(name=column.name, use=use, style=style, date_format=date_format), remark


def _inferred(column: Column, styles: _Styles) -> tuple[ColumnKind, str]:
    dtype = column.values.dtype
    if dtype.is_numeric() or dtype == pl.Null:
        return ColumnKind.NUMERIC, ""
    if dtype.is_temporal():
        raise column.is_date()
    if not is_text(dtype):
        return ColumnKind.CATEGORICAL, ""  # to_categorical refuses unsuitable types
    text = column.as_text()
    if look_like_dates(text):
        raise column.is_date()
    if column.source.typed:
        return ColumnKind.CATEGORICAL, _text_of_numbers(column, text, styles)
    return _inferred_from_text(column, text, styles)


def _inferred_from_text(column: Column, text: pl.Series, styles: _Styles) -> tuple[ColumnKind, str]:
    present = without_missing(text).drop_nulls()
    if present.is_empty():
        # "NA" alone: missing numbers if there are any, and as good as blank.
        return ColumnKind.NUMERIC, ""
    plain = parse_plain(present)
    if not plain.has_nulls():
        if present.str.contains(r"^0[0-9]").any() and present.str.contains(r"^[0-9]+$").all():
            return ColumnKind.CATEGORICAL, "digits with leading zeros: read as codes"
        return ColumnKind.NUMERIC, ""
    style = styles.of(column)
    if style is not None:
        return ColumnKind.NUMERIC, f"text read as numbers, {style}"
    if 2 * plain.is_not_null().sum() > present.len():
        bad = without_missing(text).is_not_null() & parse_plain(text).is_null()
        raise DataError(
            "cannot determine whether a column is numeric or categorical",
            detail=column.place(column.count(bad, "not numbers, though most are"))
            + f'; to read it as text: columns = {{ {toml_key(column.name)} = "categorical" }}',
            remedy="correct the values, or declare the column's kind in 'columns' of [data] in party.toml",
        )
    return ColumnKind.CATEGORICAL, ""


def _text_of_numbers(column: Column, text: pl.Series, styles: _Styles) -> str:
    present = text.drop_nulls()
    reads = not present.is_empty() and (not parse_plain(present).has_nulls() or styles.of(column) is not None)
    return 'text of which every value is a number: declare it "numeric" if it is one' if reads else ""


def date_format_of(column: Column) -> str:
    """The one format of the dates in a text column, as of ``strptime``.

    Raises:
        DataError: there is none, or day and month cannot be told apart.
    """
    formats = date_formats_of(column.as_text())
    orders = {found.partition(" ")[0] for found in formats}
    if len(orders) > 1:
        raise DataError(
            "cannot determine which number of a date is the day and which the month",
            detail=column.place("every value is a date both ways"),
            remedy='set date_format in [data] of party.toml, for instance "%d/%m/%Y"',
        )
    if not formats:
        raise DataError(
            "a column is declared as a date, and its values are no dates of one known format",
            detail=column.place(f"{column.values.null_count()} of {column.values.len()} values are missing"),
            remedy='set date_format in [data] of party.toml, for instance "%d %b %Y", or drop the column',
        )
    return formats[-1] if formats[-1].endswith("%.f") else formats[0]


class _Styles:
    """How numbers in text are written, column by column, with the rest of the file as evidence where one is unclear."""

    def __init__(self, config: DataConfig, source: Source, names: tuple[str, ...]) -> None:
        self._config = config
        self._source = source
        self._names = names
        self._known: dict[str, list[NumberStyle]] = {}
        self._found: dict[str, NumberStyle | None] = {}
        self._mark: Decimal | None = None

    def of(self, column: Column) -> NumberStyle | None:
        """The style of a column in which not every value is a plain number; None if there is none, or all are plain.

        Raises:
            DataError: its marks may separate thousands or the fraction, and nothing else in the file tells.
        """
        if column.name not in self._found:
            self._found[column.name] = self._determined(column)
        return self._found[column.name]

    def _determined(self, column: Column) -> NumberStyle | None:
        stated = self._config.decimal
        text = column.as_text()
        if not parse_plain(without_missing(text).drop_nulls()).has_nulls() and stated != ",":
            return None
        styles = self._of(column.name, text)
        fitting = [style for style in styles if stated in ("auto", style.decimal)]
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        mark = self._evidence()
        if mark is None:
            raise DataError(
                "cannot determine whether a mark separates thousands or the fraction",
                detail=column.place('every value is a number both ways, as "1,234" is'),
                remedy='set decimal = "." or decimal = "," in [data] of party.toml',
            )
        return next(style for style in fitting if style.decimal == mark)

    def _of(self, name: str, text: pl.Series) -> list[NumberStyle]:
        if name not in self._known:
            self._known[name] = styles_of(text)
        return self._known[name]

    def _evidence(self) -> Decimal | None:
        """The decimal mark of the columns in which it is clear; a point in a file whose fields commas separate."""
        if self._mark is None:
            marks = set()
            for name in self._names:
                if not is_text(self._source.frame.schema[name]):
                    continue
                styles = self._of(name, Column.of(self._source, name).as_text())
                if len(styles) == 1:
                    marks.add(styles[0].decimal)
            if len(marks) == 1:
                self._mark = marks.pop()
            elif self._source.separator in (None, ","):
                self._mark = "."
        return self._mark


def _why_left_out(column: Column) -> str | None:
    values = column.values
    if values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Object):
        return None  # refused by name when it is read
    present = values.fill_nan(None).drop_nulls() if values.dtype.is_float() else values.drop_nulls()
    if present.is_empty():
        return "blank in every row"
    if values.len() < _ENOUGH:
        return None
    distinct = present.n_unique()
    if distinct == 1 and present.len() == values.len():
        return "the same value in every row"
    if not is_text(values.dtype) or present.len() < _ENOUGH or distinct < NEARLY_ALL * present.len():
        return None
    text = present.cast(pl.String)
    # Text that is mostly numbers is refused by name when it is read.
    mostly = 2 * parse_plain(text).is_not_null().sum() > text.len()
    return (
        None
        if mostly or look_like_dates(text) or styles_of(text)
        else "nearly every text is different: an identifier or free text"
    )


def _remark(column: Column, reading: ColumnReading) -> str:
    values, rows = column.values, column.values.len()
    blank = values.null_count()
    if rows >= _ENOUGH and blank >= NEARLY_ALL * rows:
        return f"all but {rows - blank} of {rows} values are missing"
    if reading.use is ColumnKind.CATEGORICAL and not values.dtype.is_nested():
        distinct = values.drop_nulls().n_unique()
        if distinct > MANY_CATEGORIES:
            return f"{distinct} categories: rare ones teach nothing; group them, or drop the column"
    return ""


def running_number(values: npt.NDArray[np.float64]) -> str:
    """A remark if a numeric column (n,) seems to count the rows; empty otherwise."""
    if len(values) < _ENOUGH or np.isnan(values).any() or (values != np.trunc(values)).any():
        return ""
    span = values.max() - values.min()
    if span >= 2 * len(values) or len(np.unique(values)) < len(values):
        return ""
    return "every number is different and few are skipped: if it counts the rows, drop it"
