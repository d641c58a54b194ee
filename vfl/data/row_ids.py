"""The ids of a table's rows, normalized by the rules that all parties of a job share."""

from __future__ import annotations

import polars as pl

from vfl.data.columns import is_text
from vfl.data.config import IdRules
from vfl.data.sources.files import Source
from vfl.errors import ConfigError, DataError

_INTEGER = r"^([+-]?)0*([0-9]+)(?:\.0*)?$"
_DECIMAL = r"^[+-]?[0-9]+\.0+$"


def read_ids(source: Source, columns: tuple[str, ...], rules: IdRules) -> pl.Series:
    """The id of each row as text, null if one of its columns is empty.

    Several columns are joined as ``length:value`` each, the length in UTF-8 bytes, so ("ab", "c") and ("a", "bc") stay
    distinct. An id may have any length: only its hash is used.

    Raises:
        ConfigError: the number of id columns differs from the one in the job.
        DataError: a type without a canonical text form; with ``type = "integer"``, values that are not whole numbers.
    """
    if len(columns) != rules.columns:
        raise ConfigError(
            f"the number of id columns is {len(columns)} here and {rules.columns} in the job",
            detail=f"{source.path}: id_column = {list(columns)}",
            remedy="list as many columns in data.id_column of party.toml as ids.columns of job.toml says",
        )
    parts = [_canonical(source, name, rules) for name in columns]
    if len(parts) == 1:
        return parts[0].rename("id")
    frame = pl.DataFrame([part.rename(str(index)) for index, part in enumerate(parts)])
    joined = [pl.format("{}:{}", pl.col(name).str.len_bytes(), pl.col(name)) for name in frame.columns]
    return frame.select(pl.concat_str(joined).alias("id")).to_series()


def check_not_decimal(source: Source, columns: tuple[str, ...], rules: IdRules) -> None:
    """Refuse whole numbers that were exported as decimals, such as 1000.0: no other party has them like this.

    Raises:
        DataError: all ids are like this, and the job compares ids as text.
    """
    for name in columns if rules.type == "string" else ():
        values = source.frame.get_column(name)
        decimals = values.dtype.is_float() or (
            is_text(values.dtype) and bool(values.cast(pl.String).drop_nulls().str.contains(_DECIMAL).all())
        )
        if decimals and values.null_count() < values.len():
            raise DataError(
                "the ids are whole numbers that were exported with decimals, as pandas does if one is missing",
                detail=f"{source.path}, column '{name}'",
                remedy='agree on ids.type = "integer" in job.toml, or export the ids as whole numbers',
            )


def check_unique(ids: pl.Series, source: Source) -> None:
    """Refuse ids that occur in several rows.

    Raises:
        DataError: an id is repeated; the error has counts but no ids.
    """
    if surplus := ids.len() - ids.n_unique():
        raise DataError(
            "the id column has repeated values",
            detail=f"{source.path}: {surplus} of {ids.len()} rows repeat the id of another row, "
            "after normalization by [ids] of job.toml",
            remedy="keep one row for each id; check [ids] of job.toml if ids differ only in case or white space",
        )


def _canonical(source: Source, name: str, rules: IdRules) -> pl.Series:
    values = source.frame.get_column(name)
    whole = values.dtype.is_integer() or (isinstance(values.dtype, pl.Decimal) and values.dtype.scale == 0)
    if values.dtype.is_float():
        return _from_floats(source, name, values)
    if not whole and not is_text(values.dtype):
        raise DataError(
            "the id column has a type that cannot be compared between parties",
            detail=f"{source.path}, column '{name}': type {values.dtype}",
            remedy="export the ids as text or as whole numbers, the same way at every party",
        )
    text = values.cast(pl.String).str.strip_chars()
    if rules.white_space == "remove":
        text = text.str.replace_all(r"\s", "")
    if rules.case == "lower":
        text = text.str.to_lowercase()
    text = text.str.normalize("NFC").replace("", None)
    return _integers(source, name, text) if rules.type == "integer" else text


def _from_floats(source: Source, name: str, values: pl.Series) -> pl.Series:
    """Whole numbers as integers are written."""
    bad = values.is_not_nan() & values.is_not_null() & ((values != values.floor()) | (values.abs() >= 2.0**53))
    if bad.any():
        raise _not_whole(source, name, bad)
    return values.fill_nan(None).cast(pl.Int64).cast(pl.String).replace("-0", "0")


def _integers(source: Source, name: str, text: pl.Series) -> pl.Series:
    bad = ~text.str.contains(_INTEGER).fill_null(True)
    if bad.any():
        raise _not_whole(source, name, bad)
    digits = text.str.replace(_INTEGER, "${1}${2}").str.strip_prefix("+")
    return digits.replace("-0", "0")


def _not_whole(source: Source, name: str, bad: pl.Series) -> DataError:
    return DataError(
        "the id column contains values that are not whole numbers, which the job requires",
        detail=f"{source.path}, column '{name}': {bad.sum()} of {bad.len()} values, "
        f"first in {source.unit} {source.positions[int(bad.to_numpy().argmax())]}",
        remedy='correct the ids, or agree on ids.type = "string" in job.toml',
    )
