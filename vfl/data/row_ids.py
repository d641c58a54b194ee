"""The ids of a table's rows, written by the rules that all parties of a job share."""

from __future__ import annotations

import polars as pl

from vfl.data.columns import is_text
from vfl.data.config import IdRules
from vfl.data.sources.files import Source
from vfl.errors import ConfigError, DataError

_INTEGER = r"^([+-]?)0*([0-9]+)$"


def read_ids(source: Source, columns: tuple[str, ...], rules: IdRules) -> pl.Series:
    """The id of each row as text, null where one of its columns is empty.

    Several columns are joined as ``length:value`` each, the length in UTF-8 bytes, so that ("ab", "c") and ("a", "bc")
    stay two ids. An id may be of any length: only its hash is worked with.

    Raises:
        ConfigError: the table has another number of id columns than the job says.
        DataError: a type that has no canonical text; with ``type = "integer"``, values that are no whole numbers.
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


def check_unique(ids: pl.Series, source: Source) -> None:
    """Refuse ids that stand for several rows.

    Raises:
        DataError: with counts, and no id.
    """
    if surplus := ids.len() - ids.n_unique():
        raise DataError(
            "the id column has repeated values",
            detail=f"{source.path}: {surplus} of {ids.len()} rows repeat the id of another row, "
            "once ids are written as the job says",
            remedy="keep one row for each id; look at [ids] of job.toml if the ids differ in case or white space only",
        )


def _canonical(source: Source, name: str, rules: IdRules) -> pl.Series:
    values = source.frame.get_column(name)
    whole = values.dtype.is_integer() or (isinstance(values.dtype, pl.Decimal) and values.dtype.scale == 0)
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


def _integers(source: Source, name: str, text: pl.Series) -> pl.Series:
    bad = ~text.str.contains(_INTEGER).fill_null(True)
    if bad.any():
        raise DataError(
            "the id column holds values that are no whole numbers, as the job says they are",
            detail=f"{source.path}, column '{name}': {bad.sum()} of {text.len()} values, "
            f"first in {source.unit} {source.positions[int(bad.to_numpy().argmax())]}",
            remedy='correct the ids, or agree on ids.type = "string" in job.toml',
        )
    digits = text.str.replace(_INTEGER, "${1}${2}").str.strip_prefix("+")
    return digits.replace("-0", "0")
