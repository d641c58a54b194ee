"""Dates and times as numbers, by the parts that a party chooses."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from vfl.data.config import DatePart

_ISO = "%Y-%m-%d"
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S%.f")
_ZONED = (" %H:%M:%S%.f%:z", " %H:%M:%S%:z", " %H:%M%:z")
_ORDERS = (_ISO, "%Y/%m/%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y")
_LOOKS_LIKE = (
    r"^([0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}|[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{4})"
    r"([T ][0-9]{1,2}:[0-9]{2}.*)?$"
)


def look_like_dates(text: pl.Series) -> bool:
    """Whether every text that is not missing has the form of a date, with or without a time."""
    present = text.drop_nulls()
    return not present.is_empty() and bool(present.str.contains(_LOOKS_LIKE).all())


def date_formats_of(text: pl.Series) -> list[str]:
    """The formats, as of ``strptime``, by which all texts are dates; two if day and month cannot be told apart."""
    present = _normal(text.drop_nulls())
    return [
        order + time
        for order in _ORDERS
        for time in (*_TIMES, *_ZONED)
        if not present.is_empty() and _parsed(present, order + time).null_count() == 0
    ]


def parse_dates(text: pl.Series, date_format: str) -> pl.Series:
    """(n,) date-times without a zone (in UTC if the text has one), null where a text does not have the format."""
    return _parsed(_normal(text), date_format)


def part_of(moments: pl.Series, part: DatePart) -> pl.Series:
    """(n,) float64, null where there is no date.

    Args:
        moments: of type date or date-time; with a zone, converted to UTC.
    """
    if isinstance(moments.dtype, pl.Datetime) and moments.dtype.time_zone is not None:
        moments = moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return _PARTS[part](moments.cast(pl.Datetime("us"))).cast(pl.Float64)


_PARTS: dict[DatePart, Callable[[pl.Series], pl.Series]] = {
    DatePart.DAYS: lambda moments: moments.dt.timestamp("us") / 86_400_000_000,
    DatePart.YEAR: lambda moments: moments.dt.year(),
    DatePart.MONTH: lambda moments: moments.dt.month(),
    DatePart.DAY: lambda moments: moments.dt.day(),
    DatePart.WEEKDAY: lambda moments: moments.dt.weekday(),
    DatePart.HOUR: lambda moments: moments.dt.hour(),
}


def _normal(text: pl.Series) -> pl.Series:
    """With a space between date and time, and a numeric zone."""
    return text.str.replace("T", " ", literal=True).str.replace(r" ?Z$", "+00:00")


def _parsed(text: pl.Series, date_format: str) -> pl.Series:
    zoned = "%z" in date_format or "%:z" in date_format
    if not any(f"%{mark}" in date_format for mark in "HIMSTRcsX"):
        return text.str.to_date(date_format, strict=False).cast(pl.Datetime("us"))
    moments = text.str.to_datetime(date_format, strict=False, time_unit="us")
    return moments.dt.convert_time_zone("UTC").dt.replace_time_zone(None) if zoned else moments
