"""Reads a file into a frame with unique, stripped column names, and records the position of each row in the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.config import DataConfig
from vfl.data.sources.csv_text import HEAD, check_fits, read_text, separator_of
from vfl.data.sources.parquet_check import UNREADABLE, why_unreadable
from vfl.errors import ConfigError, DataError

_SUFFIXES: dict[str, Literal["csv", "parquet"]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
}


@dataclass(frozen=True, eq=False, repr=False)
class Source:
    """A file as read, before its columns are interpreted.

    Attributes:
        path: the file, for messages to the local operator.
        frame: n rows; from CSV all columns are text.
        positions: (n,) position of each row in the file, counted from 1.
        unit: what ``positions`` counts. A quoted line break inside a CSV value is not counted as a line.
        separator: between the fields of a CSV file.
    """

    path: Path
    frame: pl.DataFrame
    positions: npt.NDArray[np.int64]
    unit: Literal["line", "row"]
    separator: str | None = None

    @property
    def typed(self) -> bool:
        """Whether columns have types of their own: text is then meant to be text."""
        return self.separator is None

    def where(self, wanted: pl.Series) -> Source:
        """The rows for which ``wanted`` is true."""
        positions = self.positions[wanted.to_numpy()]
        return replace(self, frame=self.frame.filter(wanted), positions=positions)


def read_source(config: DataConfig) -> Source:
    """Read the whole file.

    Raises:
        ConfigError: the format is ``auto`` and the suffix is unknown.
        DataError: the file is missing, unreadable, malformed or has no rows, or its column names are unusable.
    """
    path = config.path
    file_format = _format_of(config)
    try:
        _check_is_file(path)
        source = _read_csv(config) if file_format == "csv" else _read_parquet(config)
    except OSError as error:
        raise DataError(
            "the configured table cannot be read",
            detail=f"{path}: {error.strerror or type(error).__name__}",
            remedy="make the file readable for the user that runs vfl",
        ) from error
    if source.frame.height == 0:
        raise _empty(path)
    return source


def column_names_of(config: DataConfig) -> list[str]:
    """The column names of a file; little else is read.

    Raises:
        ConfigError, DataError: see ``read_source``.
    """
    file_format = _format_of(config)
    _check_is_file(config.path)
    try:
        if file_format == "parquet":
            return list(pl.read_parquet_schema(config.path))
        head = read_text(config, HEAD)
        return list(pl.read_csv(head, n_rows=0, infer_schema=False, separator=separator_of(config, head)).columns)
    except UNREADABLE as error:
        raise DataError(
            "the configured table cannot be read",
            detail=f"{config.path}: its header",
            remedy="export the table again, or correct 'format'",
        ) from error


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        raise DataError(
            "the configured table does not exist",
            detail=f"{path} is {'not a file' if path.exists() else 'missing'}",
            remedy="correct 'path' in the data configuration",
        )


def _format_of(config: DataConfig) -> Literal["csv", "parquet"]:
    if config.format != "auto":
        return config.format
    suffix = Path(config.path.name.lower().removesuffix(".gz")).suffix
    if suffix not in _SUFFIXES:
        raise ConfigError(
            "the format of the configured table is unknown",
            detail=f"{config.path} has the suffix '{suffix}'; known are {', '.join(_SUFFIXES)}",
            remedy="set 'format' to 'csv' or 'parquet'",
        )
    return _SUFFIXES[suffix]


def _read_csv(config: DataConfig) -> Source:
    path = config.path
    text = read_text(config)
    separator = separator_of(config, text)
    check_fits(path, text, separator)
    try:
        # The header is read as a row: polars would silently rename repeated names.
        raw = pl.read_csv(text, has_header=False, infer_schema=False, separator=separator)
    except pl.exceptions.NoDataError:
        raise _empty(path) from None
    except UNREADABLE:
        raise _malformed_csv(path) from None  # polars quotes the line, which may hold an id
    names = _column_names(path, [name or "" for name in raw.row(0)])
    frame = raw.slice(1).rename(dict(zip(raw.columns, names, strict=True))).with_columns(_stripped(pl.all()))
    positions = np.arange(2, frame.height + 2, dtype=np.int64)
    filled = frame.select(~pl.all_horizontal(pl.all().is_null())).to_series()
    frame = _without_missing(frame.filter(filled), config)
    return Source(path, frame, positions[filled.to_numpy()], "line", separator)


def _read_parquet(config: DataConfig) -> Source:
    path = config.path
    if reason := why_unreadable(path):
        raise _malformed_parquet(path, reason)
    try:
        raw = pl.read_parquet(path, glob=False)
    except UNREADABLE as error:
        raise _malformed_parquet(path, str(error)) from error
    return frame_source(raw, config)


def frame_source(raw: pl.DataFrame, config: DataConfig) -> Source:
    """A source with typed columns, from a Parquet file or a frame in memory.

    Raises:
        ConfigError: settings of CSV files are configured.
        DataError: there are no rows, or the column names are unusable.
    """
    path = config.path
    stated = config.model_fields_set & {"separator", "decimal", "encoding"}
    if stray := [name for name in sorted(stated) if getattr(config, name) not in ("auto", "utf-8")]:
        raise ConfigError(
            f"{' and '.join(stray)} apply to CSV files only", detail=str(path), remedy="remove them from [data]"
        )
    names = _column_names(path, raw.columns)
    texts = [name for name, dtype in zip(names, raw.dtypes, strict=True) if dtype == pl.String]
    frame = raw.rename(dict(zip(raw.columns, names, strict=True))).with_columns(_stripped(pl.col(texts)))
    if frame.height == 0:
        raise _empty(path)
    positions = np.arange(1, frame.height + 1, dtype=np.int64)
    return Source(path, _without_missing(frame, config), positions, "row")


def _without_missing(frame: pl.DataFrame, config: DataConfig) -> pl.DataFrame:
    """Null where a value is one of those that ``missing`` lists, as text or as a number; ids stay."""
    if not config.missing:
        return frame
    numbers = [number for number in map(_number, config.missing) if number is not None]
    changed = []
    for name, dtype in frame.schema.items():
        if name in config.id_columns:
            continue
        column = pl.col(name)
        if dtype == pl.String:
            changed.append(pl.when(~column.is_in(list(config.missing))).then(column).alias(name))
        elif dtype.is_numeric() and numbers:
            changed.append(pl.when(~column.cast(pl.Float64).is_in(numbers)).then(column).alias(name))
    return frame.with_columns(changed)


def _number(token: str) -> float | None:
    try:
        return float(token)
    except ValueError:
        return None


def _stripped(texts: pl.Expr) -> pl.Expr:
    """Text without surrounding white space; empty text counts as missing."""
    return texts.str.strip_chars().replace("", None)


def _column_names(path: Path, header: list[str]) -> list[str]:
    names = [name.strip() for name in header]
    repeated = sorted(name for name, count in Counter(names).items() if name and count > 1)
    if repeated:
        raise DataError(
            "the configured table has several columns with the same name",
            detail=f"{path}: {', '.join(repeated)}",
            remedy="give every column its own name",
        )
    if "" in names:
        raise DataError(
            "the configured table has a column without a name",
            detail=f"{path}: column {names.index('') + 1} of {len(names)}",
            remedy="name the column in the header line; with pandas, export with index=False",
        )
    return names


def _empty(path: Path) -> DataError:
    return DataError("the configured table has no rows", detail=str(path), remedy="export the table again")


def _malformed_parquet(path: Path, reason: str) -> DataError:
    return DataError(
        "the configured table is not a readable Parquet file",
        detail=f"{path}: {reason}",
        remedy="export the table again, or correct 'format'",
    )


def _malformed_csv(path: Path) -> DataError:
    return DataError(
        "the configured table is not a well-formed CSV file",
        detail=f"{path}: a line has more fields than the header, or a quotation mark is not closed",
        remedy="export the table again with quotation marks around text that contains separators, or set 'separator' "
        "in [data] of party.toml",
    )
