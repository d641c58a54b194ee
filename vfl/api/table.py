"""A party's table: a frame, arrays or a file, and what its columns mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import polars as pl

from vfl.configuration.toml_files import validated
from vfl.data.config import DataConfig
from vfl.data.sources.files import column_names_of
from vfl.data.sources.frames import as_frame
from vfl.data.table import check_columns

FRAME = Path("<table in memory>")
"""Stands for the file in errors about a table that has none."""


class Table:
    """Rows of one party, one of whose columns is the id that all parties have in common.

    Args:
        source: a polars or pandas frame, an Arrow table, a dictionary of columns, a two-dimensional NumPy array (with
            ``names``), or the path of a CSV or Parquet file.
        id: the id column, or several that make an id together.
        label: what is predicted; at the active party only.
        columns: the features and their kinds, ``"numeric"`` or ``"categorical"``; by default all other columns, numbers
            numeric, text and booleans categorical.
        drop: columns that are left out.
        names: column names of a NumPy array.
        format: of a file; by default told by its suffix.

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
        columns: Mapping[str, str] | None = None,
        drop: Sequence[str] = (),
        names: Sequence[str] | None = None,
        format: Literal["auto", "csv", "parquet"] = "auto",
    ) -> None:
        is_file = isinstance(source, str | Path)
        self.frame: pl.DataFrame | None = None if is_file else as_frame(source, names)
        content: dict[str, Any] = {
            "path": str(Path(source).expanduser().absolute()) if is_file else str(FRAME),
            "format": format,
            "id_column": id if isinstance(id, str) else list(id),
            "drop": list(drop),
        }
        if label is not None:
            content["label_column"] = label
        if columns is not None:
            content["columns"] = dict(columns)
        self.content = content
        self.config = validated(content, DataConfig, "the table")
        if self.frame is not None:
            self._check_columns(*self.config.id_columns, *(self.config.columns or {}), *self.config.drop)

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
        if self.config.columns is not None:
            return bool(self.config.columns)
        used = {*self.config.id_columns, self.label, *self.config.drop}
        return any(name not in used for name in self._column_names())

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
        if self.label is None:
            return self
        source = self.frame if self.frame is not None else self.config.path
        drop = self.config.drop
        if self.frame is None or self.label in self.frame.columns:
            drop = (*drop, self.label)
        return Table(
            source,
            id=self.config.id_columns,
            columns=None if self.config.columns is None else {k: str(v) for k, v in self.config.columns.items()},
            drop=drop,
            format=self.config.format,
        )

    def _column_names(self) -> list[str]:
        there = self.frame.columns if self.frame is not None else column_names_of(self.config)
        return [name.strip() for name in there]

    def _check_columns(self, *names: str) -> None:
        check_columns(names, self._column_names(), self.config.path)

    def __repr__(self) -> str:
        source = f"{self.frame.height} rows" if self.frame is not None else str(self.config.path)
        return f"Table({source}, id={self.config.id_column!r}, label={self.label!r})"
