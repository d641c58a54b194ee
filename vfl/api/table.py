"""A party's table: a frame, arrays or a file, and what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import Any, Literal

import polars as pl

from vfl.configuration.toml_files import validated
from vfl.data.config import DataConfig, IdRules
from vfl.data.description import TableDescription
from vfl.data.sources.files import column_names_of
from vfl.data.sources.frames import as_frame
from vfl.data.table import check_columns, load_table

FRAME = Path("<table in memory>")
"""Stands for the file in errors about a table that has none."""


class Table:
    """Rows of one party, one of whose columns is the id that all parties have in common.

    Args:
        source: a polars or pandas frame, an Arrow table, a dictionary of columns, a two-dimensional NumPy array (with
            ``names``), or the path of a CSV or Parquet file.
        id: the id column, or several that make an id together.
        label: what is predicted; at the active party only.
        columns: kinds of some columns, where they are not what they seem: ``"numeric"``, ``"categorical"``, or of dates
            one or more of ``"days"``, ``"year"``, ``"month"``, ``"day"``, ``"weekday"``, ``"hour"``.
        features: the columns to use; by default all others that can help.
        drop: columns that are left out.
        positive_label: of two labels that are words, the one whose probability is predicted.
        classes: labels of a multiclass task, in order.
        rows_without_label: ``"refuse"``, or ``"leave out"``.
        weight: the column of each row's weight in the loss.
        time: the column of dates, times or numbers by which a job with ``split_by="time"`` splits the rows; at the
            active party only.
        missing: further texts or numbers that stand for missing values.
        names: column names of a NumPy array.
        format: of a file; by default determined by its suffix.
        reading: how a CSV file is written, as in party.toml: ``separator``, ``decimal``, ``encoding``, ``date_format``.

    Raises:
        ConfigError: the arguments contradict each other.
        DataError: the source cannot be read as a table, or a table in memory lacks a column. ``vfl.Party`` checks for
            the label, which rows to be predicted may lack.
    """

    def __init__(
        self,
        source: Any,
        *,
        id: str | Sequence[str],  # the word that users look for
        label: str | None = None,
        columns: Mapping[str, str | Sequence[str]] | None = None,
        features: Sequence[str] | None = None,
        drop: Sequence[str] = (),
        positive_label: str | float | bool | None = None,
        classes: Sequence[str | float] | None = None,
        rows_without_label: Literal["refuse", "leave out"] = "refuse",
        weight: str | None = None,
        time: str | None = None,
        missing: Sequence[str | float] = (),
        names: Sequence[str] | None = None,
        format: Literal["auto", "csv", "parquet"] = "auto",
        **reading: str,
    ) -> None:
        is_file = isinstance(source, str | Path)
        self.frame: pl.DataFrame | None = None if is_file else as_frame(source, names)
        stated: dict[str, Any] = {
            "label_column": label,
            "columns": None if columns is None else dict(columns),
            "features": None if features is None else list(features),
            "positive_label": positive_label,
            "classes": None if classes is None else list(classes),
            "rows_without_label": None if rows_without_label == "refuse" else rows_without_label,
            "weight_column": weight,
            "time_column": time,
            "missing": [str(mark) for mark in missing] or None,
            **reading,
        }
        self.content: dict[str, Any] = {
            "path": str(Path(source).expanduser().absolute()) if is_file else str(FRAME),
            "format": format,
            "id_column": id if isinstance(id, str) else list(id),
            "drop": list(drop),
            **{key: value for key, value in stated.items() if value is not None},
        }
        self.config = validated(self.content, DataConfig, "the table")
        if self.frame is not None:
            self._check_columns(*(name for name in self.config.named_columns if name not in (label, weight, time)))

    @classmethod
    def of_config(cls, config: DataConfig) -> Table:
        """The table that ``[data]`` of a party.toml names."""
        table = cls.__new__(cls)
        table.frame, table.config = None, config
        table.content = config.model_dump(mode="json", exclude_unset=True)
        return table

    @property
    def label(self) -> str | None:
        """The label column; None at a passive party."""
        return self.config.label_column

    @property
    def has_features(self) -> bool:
        """Whether any column but id, label and dropped ones is there; an active party may have none.

        Raises:
            DataError: the file cannot be read.
        """
        if self.config.features is not None:
            return bool(self.config.features)
        return any(name not in self.config.not_features for name in self._column_names())

    def describe(self) -> TableDescription:
        """What is understood of it: each column's kind, missing values and use, and the label's distribution.

        Raises:
            DataError: it cannot be used as it is.
        """
        loaded = load_table(
            self.config, self._any_ids, needs_label=self.label is not None, needs_features=False, frame=self.frame
        )
        return TableDescription.of(loaded, self.config)

    @property
    def _any_ids(self) -> IdRules:
        """Rules by which any id can be read; the job's are not known here."""
        return IdRules(columns=len(self.config.id_columns))

    def check_label(self) -> None:
        """Check that the label column is there, if there is to be one.

        Raises:
            DataError: it is not, or the file cannot be read.
        """
        if self.label is not None:
            self._check_columns(self.label)

    def check_columns(self) -> None:
        """Check that all columns that are named are there.

        Raises:
            DataError: one is not, or the file cannot be read.
        """
        self._check_columns(*self.config.named_columns)

    def without_label(self) -> Table:
        """The same rows where nothing is to be learned from them."""
        if self.label is None and self.config.time_column is None:
            return self
        rows = copy(self)
        of_labels = ("label_column", "positive_label", "classes", "rows_without_label", "weight_column", "time_column")
        rows.content = {key: value for key, value in self.content.items() if key not in of_labels}
        rows.config = validated(rows.content, DataConfig, "the table")
        return rows

    def _column_names(self) -> list[str]:
        there = self.frame.columns if self.frame is not None else column_names_of(self.config)
        return [name.strip() for name in there]

    def _check_columns(self, *names: str) -> None:
        check_columns(names, self._column_names(), self.config.path)

    def __repr__(self) -> str:
        source = f"{self.frame.height} rows" if self.frame is not None else str(self.config.path)
        return f"Table({source}, id={self.config.id_column!r}, label={self.label!r})"
