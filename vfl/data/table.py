"""A party's table in memory: ids, features by kind, and labels at the active party."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.columns import Column
from vfl.data.config import ColumnKind, DataConfig, IdRules
from vfl.data.row_ids import check_unique, read_ids
from vfl.data.sources.files import Source, frame_source, read_source
from vfl.errors import ConfigError, DataError
from vfl.runtime.progress import piece_finished


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """n rows of a party. Its repr shows only sizes, because rows must not reach a log.

    Attributes:
        ids: n distinct ids as text, normalized by the job's rules.
        own_ids: the same ids whatever the job's rules, for what outlasts a job.
        numeric: (n, p) float64, NaN where missing, never infinite.
        numeric_names: p column names.
        categorical: (n, c) of str, None where missing.
        categorical_names: c column names.
        labels: (n,) float64, all finite; None at a passive party.
        dropped: number of rows that were skipped because they have no id.
    """

    ids: pl.Series
    own_ids: pl.Series
    numeric: npt.NDArray[np.float64]
    numeric_names: tuple[str, ...]
    categorical: npt.NDArray[np.object_]
    categorical_names: tuple[str, ...]
    labels: npt.NDArray[np.float64] | None
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        p, c = len(self.numeric_names), len(self.categorical_names)
        return f"Table(rows={len(self)}, numeric={p}, categorical={c}, labels={self.labels is not None})"

    @property
    def has_features(self) -> bool:
        """Whether there is any column besides ids and labels."""
        return bool(self.numeric_names or self.categorical_names)

    @property
    def bytes(self) -> int:
        """Approximate memory use; a text counts as 64 bytes."""
        labels = 0 if self.labels is None else self.labels.nbytes
        ids = int(self.ids.estimated_size() + self.own_ids.estimated_size())
        return ids + self.numeric.nbytes + 64 * self.categorical.size + labels

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all rows in order and of the column names, in hexadecimal."""
        sha256 = hashlib.sha256()
        texts = (*self.numeric_names, *self.categorical_names, *self.ids, *self.categorical.ravel())
        for text in texts:
            # The length separates values; a missing value differs from every text.
            encoded = b"" if text is None else str(text).encode()
            sha256.update((-1 if text is None else len(encoded)).to_bytes(8, "little", signed=True) + encoded)
        for values in (self.numeric, self.labels):
            sha256.update(b"" if values is None else np.ascontiguousarray(values).data)
        return sha256.hexdigest()

    def select(self, rows: npt.NDArray[np.int64]) -> Table:
        """The rows at these positions, in this order."""
        return Table(
            ids=self.ids.gather(rows),
            own_ids=self.own_ids.gather(rows),
            numeric=self.numeric[rows],
            numeric_names=self.numeric_names,
            categorical=self.categorical[rows],
            categorical_names=self.categorical_names,
            labels=None if self.labels is None else self.labels[rows],
            dropped=self.dropped,
        )


def load_table(
    config: DataConfig,
    rules: IdRules | None = None,
    *,
    needs_label: bool,
    needs_features: bool | None = None,
    frame: pl.DataFrame | None = None,
) -> Table:
    """Read a party's table and check all of it. Rows without an id are skipped and counted.

    In CSV an empty cell is a missing value; in numeric columns so are NA, N/A, NaN, null and none. Blank lines are
    skipped.

    Args:
        config: file and columns.
        rules: how ids are normalized; the defaults if omitted.
        needs_label: True at the active party, which may have no features at all.
        needs_features: by default, True if no label is needed.
        frame: the rows, if they are in memory; ``config.path`` then only identifies them in errors.

    Raises:
        ConfigError: a label column is configured but not allowed, or needed but not configured; unknown format.
        DataError: unreadable or empty file; missing columns; no ids or repeated ids; values that do not fit their
            column; labels that are missing or not finite numbers; no features at a passive party.
    """
    _check_label_column(config, needs_label)
    source = read_source(config) if frame is None else frame_source(frame, config.path)
    piece_finished()
    check_columns(config.named_columns, source.frame.columns, source.path)
    rows = source.frame.height
    source, ids, own_ids = _with_ids(config, source, rules or IdRules())
    piece_finished()
    kinds = _feature_kinds(config, source)
    if not kinds and (not needs_label if needs_features is None else needs_features):
        raise DataError(
            "the table of a passive party has no feature columns",
            detail=f"{source.path} has the columns {_listed(source.frame.columns)}",
            remedy="export feature columns, or list them in 'columns'",
        )
    numeric_names = tuple(name for name, kind in kinds.items() if kind is ColumnKind.NUMERIC)
    categorical_names = tuple(name for name, kind in kinds.items() if kind is ColumnKind.CATEGORICAL)
    numeric = np.empty((source.frame.height, len(numeric_names)), dtype=np.float64)
    for position, name in enumerate(numeric_names):
        numeric[:, position] = Column.of(source, name).to_numeric()
        piece_finished()
    categorical = np.empty((source.frame.height, len(categorical_names)), dtype=np.object_)
    for position, name in enumerate(categorical_names):
        categorical[:, position] = Column.of(source, name).to_categorical()
        piece_finished()
    return Table(
        ids=ids,
        own_ids=own_ids,
        numeric=numeric,
        numeric_names=numeric_names,
        categorical=categorical,
        categorical_names=categorical_names,
        labels=None if config.label_column is None else _labels(source, config.label_column),
        dropped=rows - len(ids),
    )


def _with_ids(config: DataConfig, source: Source, rules: IdRules) -> tuple[Source, pl.Series, pl.Series]:
    ids = read_ids(source, config.id_columns, rules)
    own_ids = read_ids(source, config.id_columns, IdRules(columns=rules.columns))
    present = ids.is_not_null()
    if not present.any():
        raise DataError(
            "no row of the table has an id",
            detail=f"{source.path}: {', '.join(config.id_columns)} empty in all {ids.len()} rows",
            remedy="correct data.id_column in party.toml, or export the table with its ids",
        )
    source, ids, own_ids = source.where(present), ids.filter(present), own_ids.filter(present)
    check_unique(ids, source)
    return source, ids, own_ids


def _check_label_column(config: DataConfig, needs_label: bool) -> None:
    if needs_label and config.label_column is None:
        raise ConfigError(
            "the active party's table has no label column configured",
            detail=f"{config.path}: 'label_column' is not set",
            remedy="set 'label_column' to the column to predict",
        )
    if not needs_label and config.label_column is not None:
        raise ConfigError(
            "a label column is configured, but only the active party may have one",
            detail=f"{config.path}: 'label_column' is '{config.label_column}'",
            remedy="remove 'label_column', and list the column in 'drop' if the table has it",
        )


def check_columns(named: Sequence[str], present: Sequence[str], path: Path) -> None:
    """Check that all named columns are present.

    Args:
        path: what to call the table in the error.

    Raises:
        DataError: some are missing.
    """
    if missing := [name for name in named if name not in present]:
        raise DataError(
            "configured columns are missing from the table",
            detail=f"{path} has no {_listed(missing)}; it has the columns {_listed(present)}",
            remedy="correct the names in the configuration or in the header; a CSV file needs commas between fields",
        )


def _feature_kinds(config: DataConfig, source: Source) -> dict[str, ColumnKind]:
    if config.columns is not None:
        return config.columns
    others = {*config.id_columns, config.label_column, *config.drop}
    features = [name for name in source.frame.columns if name not in others]
    return {name: Column.of(source, name).infer_kind() for name in features}


def _labels(source: Source, name: str) -> npt.NDArray[np.float64]:
    try:
        labels = Column.of(source, name).to_numeric()
    except DataError as error:
        raise DataError(
            "the label column contains values that are not finite numbers",
            detail=error.detail,
            remedy="write labels as numbers: 0 and 1, classes as 0, 1, 2, ..., or the quantity itself",
        ) from None
    if missing := int(np.isnan(labels).sum()):
        raise DataError(
            "the label column has missing values",
            detail=f"{source.path}, column '{name}': {missing} of {len(labels)} values are missing",
            remedy="remove the rows without a label",
        )
    return labels


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
