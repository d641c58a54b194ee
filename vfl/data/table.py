"""A party's table in memory: ids, features by kind, and labels at the active party."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.data.columns import Column, ColumnReading
from vfl.data.config import ColumnKind, DataConfig, IdRules
from vfl.data.inference import Understood, running_number, understand
from vfl.data.label_column import Labels, read_labels, read_times, read_weights, with_labels
from vfl.data.row_ids import check_not_decimal, check_unique, read_ids
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
        labels: (n,) float64, all finite, or text; None at a passive party.
        weights: (n,) float64 above 0 with a mean of 1, in the loss; None without a weight column.
        times: (n,) float64, all finite, in the order of time; None without a time column.
        understood: how the feature columns were read, and which were left out.
        dropped: number of rows that were skipped because they have no id.
        unlabeled: number of rows that were left out because they have no label.
    """

    ids: pl.Series
    own_ids: pl.Series
    numeric: npt.NDArray[np.float64]
    numeric_names: tuple[str, ...]
    categorical: npt.NDArray[np.object_]
    categorical_names: tuple[str, ...]
    labels: Labels | None
    weights: npt.NDArray[np.float64] | None = None
    times: npt.NDArray[np.float64] | None = None
    understood: Understood = Understood((), {}, {})
    dropped: int = 0
    unlabeled: int = 0

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
        for values in (self.numeric, self.labels, self.weights):
            sha256.update(b"" if values is None else np.ascontiguousarray(values).tobytes())
        if self.times is not None:
            sha256.update(b"times" + self.times.tobytes())
        return sha256.hexdigest()

    def select(self, rows: npt.NDArray[np.int64]) -> Table:
        """The rows at these positions, in this order."""
        return replace(
            self,
            ids=self.ids.gather(rows),
            own_ids=self.own_ids.gather(rows),
            numeric=self.numeric[rows],
            categorical=self.categorical[rows],
            labels=None if self.labels is None else self.labels[rows],
            weights=None if self.weights is None else self.weights[rows],
            times=None if self.times is None else self.times[rows],
        )


def load_table(
    config: DataConfig,
    rules: IdRules | None = None,
    *,
    needs_label: bool,
    needs_features: bool | None = None,
    frame: pl.DataFrame | None = None,
    readings: tuple[ColumnReading, ...] | None = None,
) -> Table:
    """Read a party's table and check all of it. Rows without an id are skipped and counted.

    Args:
        config: file and columns.
        rules: how ids are normalized; the defaults if omitted.
        needs_label: True at the active party, which may have no features at all.
        needs_features: by default, True if no label is needed.
        frame: the rows, if they are in memory; ``config.path`` then only identifies them in errors.
        readings: the columns that a model was trained on, and how they were read: nothing is inferred, and other
            columns of the table are ignored.

    Raises:
        ConfigError: a label column is configured but not allowed, or needed but not configured; unknown format.
        DataError: unreadable or empty file; missing columns; no ids or repeated ids; values that do not fit their
            column; labels that are missing or cannot be labels; no features at a passive party.
    """
    _check_label_column(config, needs_label)
    source = read_source(config) if frame is None else frame_source(frame, config)
    piece_finished()
    needed = config.named_columns if readings is None else (*config.id_columns, *(read.name for read in readings))
    check_columns(needed, source.frame.columns, source.path)
    rows = source.frame.height
    source, ids, own_ids = _with_ids(config, source, rules or IdRules())
    dropped = rows - len(ids)
    piece_finished()
    labels = weights = times = None
    if config.label_column is not None:
        present = with_labels(config, source, config.label_column)
        source, ids, own_ids = source.where(present), ids.filter(present), own_ids.filter(present)
        labels = read_labels(source, config.label_column)
        weights = None if config.weight_column is None else read_weights(source, config.weight_column)
    if config.time_column is not None and readings is None:
        times = read_times(config, source, config.time_column)
    understood = understand(config, source) if readings is None else Understood(readings, {}, {})
    if not understood.readings and (not needs_label if needs_features is None else needs_features):
        raise _no_features(source, understood)
    numeric = _numeric(source, understood)
    categorical_names = tuple(read.name for read in understood.readings if read.use is ColumnKind.CATEGORICAL)
    categorical = np.empty((source.frame.height, len(categorical_names)), dtype=np.object_)
    for position, name in enumerate(categorical_names):
        categorical[:, position] = Column.of(source, name).to_categorical()
        piece_finished()
    return Table(
        ids=ids,
        own_ids=own_ids,
        numeric=numeric,
        numeric_names=tuple(name for read in understood.readings for name in read.numeric_names),
        categorical=categorical,
        categorical_names=categorical_names,
        labels=labels,
        weights=weights,
        times=times,
        understood=_with_running_numbers(understood, numeric),
        dropped=dropped,
        unlabeled=rows - dropped - len(ids),
    )


def _numeric(source: Source, understood: Understood) -> npt.NDArray[np.float64]:
    """(n, p) values, column by column so that no more than one is held twice."""
    width = sum(len(reading.numeric_names) for reading in understood.readings)
    numeric = np.empty((source.frame.height, width), dtype=np.float64)
    position = 0
    for reading in understood.readings:
        column = Column.of(source, reading.name)
        if isinstance(reading.use, tuple):
            for part in column.to_parts(reading.use, reading.date_format):
                numeric[:, position] = part
                position += 1
        elif reading.use is ColumnKind.NUMERIC:
            numeric[:, position] = column.to_numeric(reading.style)
            position += 1
        piece_finished()
    return numeric


def _with_running_numbers(understood: Understood, numeric: npt.NDArray[np.float64]) -> Understood:
    names = [name for reading in understood.readings for name in reading.numeric_names]
    found = {name: running_number(column) for name, column in zip(names, numeric.T, strict=True)}
    remarks = {name: remark for name, remark in found.items() if remark}
    return replace(understood, remarks={**remarks, **understood.remarks})


def _no_features(source: Source, understood: Understood) -> DataError:
    left_out = [f"'{name}' ({reason})" for name, reason in understood.left_out.items()]
    reasons = f"; left out: {', '.join(left_out)}" if left_out else ""
    return DataError(
        "the table of a passive party has no feature columns",
        detail=f"{source.path} has the columns {_listed(source.frame.columns)}{reasons}",
        remedy="export feature columns, or list those to use in 'features'",
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
    check_not_decimal(source, config.id_columns, rules)
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
            remedy="correct the names in the configuration or in the header; set 'separator' if it is an unusual one",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))
