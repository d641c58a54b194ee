"""Converts frames and arrays of other libraries to polars frames, without importing those libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from vfl.errors import DataError


def as_frame(source: Any, names: Sequence[str] | None = None) -> pl.DataFrame:
    """A polars frame with the same columns.

    Args:
        source: a polars or pandas frame, an Arrow table, a mapping of columns, or a two-dimensional NumPy array.
        names: column names of a NumPy array.

    Raises:
        DataError: it is none of these, or its columns cannot be converted.
    """
    try:
        return _converted(source, names)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise DataError(
            "a table in memory cannot be read",
            detail=f"{type(source).__module__}.{type(source).__name__}: {type(error).__name__}: {error}",
            remedy="pass a polars or pandas frame, an Arrow table, a dictionary of columns, or a path",
        ) from error


def _converted(source: Any, names: Sequence[str] | None) -> pl.DataFrame:
    if isinstance(source, np.ndarray):
        return _from_array(source, names)
    if names is not None:
        raise TypeError("'names' applies only to NumPy arrays; other sources have their own column names")
    if isinstance(source, pl.LazyFrame):
        return source.collect()
    if isinstance(source, pl.DataFrame):
        return source
    if type(source).__module__.partition(".")[0] == "pandas":
        return pl.DataFrame([_from_pandas(str(name), source[name]) for name in source.columns])
    if isinstance(source, Mapping) or hasattr(source, "__arrow_c_stream__"):
        return pl.DataFrame(source)
    raise TypeError("not a table")


def _from_array(array: np.ndarray, names: Sequence[str] | None) -> pl.DataFrame:
    if array.dtype.names is not None:
        return pl.DataFrame({name: array[name] for name in array.dtype.names})
    if array.ndim != 2 or names is None or len(names) != array.shape[1]:
        raise ValueError("a NumPy array needs two dimensions and 'names' with a name for each column")
    return pl.DataFrame({name: array[:, at] for at, name in enumerate(names)})


def _from_pandas(name: str, column: Any) -> pl.Series:
    """Converted through NumPy or Python values: pandas provides Arrow data only if pyarrow is installed."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biufM":
        return pl.Series(name, column.to_numpy())
    missing = column.isna().to_numpy()
    return pl.Series(name, [None if gone else value for value, gone in zip(column.tolist(), missing, strict=True)])
