"""The label, the weight and the time of each row, at the active party only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.columns import Column, is_text
from vfl.data.config import DataConfig, DatePart
from vfl.data.dates import look_like_dates, parse_dates
from vfl.data.inference import date_format_of
from vfl.data.numbers import parse_plain, styles_of
from vfl.data.sources.files import Source
from vfl.errors import DataError

Labels = npt.NDArray[Any]
"""(n,) float64, or text."""


def with_labels(config: DataConfig, source: Source, name: str) -> pl.Series:
    """Which rows have a label (n,).

    Raises:
        DataError: some have none, and the party does not say that they are to be left out; none has one.
    """
    values = Column.of(source, name).values
    present = values.is_not_null() & (~values.is_nan() if values.dtype.is_float() else True)
    if is_text(values.dtype):
        text = values.cast(pl.String)
        marks = text.str.to_lowercase().is_in(["nan", "na", "n/a", "null"])  # as pandas and R write nothing at all
        present &= ~marks.fill_null(True)
    missing = int((~present).sum())
    if missing == present.len():
        raise DataError("no row has a label", detail=f"{source.path}, column '{name}'", remedy="correct 'label_column'")
    if missing and config.rows_without_label == "refuse":
        raise DataError(
            "the label column has missing values",
            detail=f"{source.path}, column '{name}': {missing} of {present.len()} values are missing",
            remedy='set rows_without_label = "leave out" in [data] of party.toml, or remove the rows',
        )
    return present


def read_labels(source: Source, name: str) -> Labels:
    """Labels (n,), float64 if all are numbers, truth values included, otherwise text.

    Raises:
        DataError: most are numbers, but not all; a type that cannot be a label; infinite values.
    """
    column = Column.of(source, name)
    dtype = column.values.dtype
    if dtype.is_nested() or dtype.is_temporal() or dtype in (pl.Binary, pl.Object):
        raise DataError(
            "the label column has a type that cannot be predicted",
            detail=column.place(f"type {dtype}"),
            remedy="export numbers or words",
        )
    if not is_text(dtype):
        return _numbers(column)
    text = column.as_text()
    numbers = parse_plain(text)
    if not numbers.has_nulls() or styles_of(text):
        return _numbers(column)
    if 2 * numbers.is_not_null().sum() > text.len():
        raise DataError(
            "the label column contains values that are not finite numbers",
            detail=column.place(column.count(numbers.is_null(), "not numbers, though most are")),
            remedy="correct the values, or leave unknown ones empty",
        )
    return text.to_numpy().astype(str)


def read_weights(source: Source, name: str) -> npt.NDArray[np.float64]:
    """Weights (n,) in the loss, with a mean of 1.

    Raises:
        DataError: values that are missing, not numbers, or not above 0.
    """
    column = Column.of(source, name)
    weights = column.to_numeric()
    bad = ~(weights > 0)
    if bad.any():
        raise DataError(
            "the weight column contains values that are missing or not above 0",
            detail=column.place(column.count(pl.Series(bad), "missing or not above 0")),
            remedy="give every row a weight above 0, or remove 'weight_column'",
        )
    mean: npt.NDArray[np.float64] = weights / weights.mean()
    return mean


def read_times(config: DataConfig, source: Source, name: str) -> npt.NDArray[np.float64]:
    """What the rows are ordered by (n,): days since 1970-01-01 of dates and times, in UTC; numbers as they are.

    Raises:
        DataError: values that are missing, are no numbers and no dates of one format, or are all the same.
    """
    column = Column.of(source, name)
    times = _days(column, config) if _is_date(column, config) else _as_numbers(column)
    missing = np.isnan(times)
    if missing.any():
        raise DataError(
            "the time column has missing values, and rows without a time cannot be split by it",
            detail=column.place(column.count(pl.Series(missing), "missing")),
            remedy="fill in the times, remove these rows from the table, or choose another data.time_column",
        )
    if (times == times[0]).all():
        raise DataError(
            "the time column has the same value in every row",
            detail=column.place(f"{len(times)} rows"),
            remedy='choose another data.time_column, or agree on another split.by than "time"',
        )
    return times


def _is_date(column: Column, config: DataConfig) -> bool:
    if not is_text(column.values.dtype):
        return column.values.dtype.is_temporal()
    text = column.as_text()
    if look_like_dates(text):
        return True
    present = text.drop_nulls()
    stated = config.date_format is not None and not present.is_empty()
    return stated and not parse_dates(present, config.date_format or "").has_nulls()


def _days(column: Column, config: DataConfig) -> npt.NDArray[np.float64]:
    date_format = config.date_format
    if date_format is None and is_text(column.values.dtype):
        date_format = date_format_of(column)
    return column.to_parts((DatePart.DAYS,), date_format)[0]


def _as_numbers(column: Column) -> npt.NDArray[np.float64]:
    style = None
    if is_text(column.values.dtype):
        text = column.as_text()
        style = next(iter(styles_of(text)), None) if parse_plain(text).has_nulls() else None
    return column.to_numeric(style)


def _numbers(column: Column) -> npt.NDArray[np.float64]:
    try:
        return _as_numbers(column)
    except DataError as error:
        raise DataError(
            "the label column contains values that are not finite numbers",
            detail=error.detail,
            remedy="write labels as numbers: 0 and 1, classes as 0, 1, 2, ..., or the quantity itself",
        ) from None
