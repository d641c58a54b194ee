"""Where a party's table is and what its columns mean: ``[data]`` of ``party.toml``, ``[ids]`` of ``job.toml``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vfl.configuration.toml_files import Configuration, LocalPath

ColumnName = Annotated[str, Field(min_length=1)]


class ColumnKind(StrEnum):
    """How the values of a feature column are read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class IdRules(Configuration):
    """``[ids]`` of job.toml: how ids are normalized before they are compared; the same at every party.

    The rules apply in this order: surrounding white space is stripped, then ``white_space``, ``case``, Unicode NFC,
    ``type``. Rows with an empty id column are skipped and counted.

    Attributes:
        columns: how many columns form an id; joined with their lengths, in the order in which each party lists them.
        type: ``integer`` reads decimal digits, so "007", "+7" and "7" are the same id; ``string`` keeps them distinct.
        case: with ``lower``, "Ab" and "aB" are the same id.
        white_space: ``remove`` also removes white space inside an id: "AB 12" and "AB12" are the same id.
    """

    columns: Annotated[int, Field(ge=1, le=16)] = 1
    type: Literal["string", "integer"] = "string"
    case: Literal["keep", "lower"] = "keep"
    white_space: Literal["strip", "remove"] = "strip"


class DataConfig(BaseModel):
    """A table and its columns. Surrounding white space is ignored in column names, here and in headers.

    Attributes:
        path: the file.
        format: ``auto`` determines it by the file's suffix: ``.csv``, ``.parquet`` or ``.pq``.
        id_column: the ids on which the parties' tables are matched, normalized by the job's ``[ids]``; a list if
            several columns form an id.
        label_column: what is predicted; only at the active party.
        columns: the features and their kinds, in the desired order; other columns are ignored. If omitted, every
            column other than id, label and ``drop`` is a feature: text and booleans categorical, numbers numeric.
        drop: columns to ignore; each must exist.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    path: LocalPath
    format: Literal["auto", "csv", "parquet"] = "auto"
    id_column: ColumnName | Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    label_column: ColumnName | None = None
    columns: dict[ColumnName, ColumnKind] | None = None
    drop: tuple[ColumnName, ...] = ()

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that form an id, in order."""
        return (self.id_column,) if isinstance(self.id_column, str) else self.id_column

    @property
    def named_columns(self) -> tuple[str, ...]:
        """All columns that the table must have."""
        label = () if self.label_column is None else (self.label_column,)
        return (*self.id_columns, *label, *(self.columns or {}), *self.drop)

    @model_validator(mode="after")
    def _one_use_per_column(self) -> Self:
        uses = [*self.id_columns, *(self.columns or {}), *self.drop]
        if self.label_column is not None:
            uses.append(self.label_column)
        repeated = sorted({name for name in uses if uses.count(name) > 1})
        if repeated:
            names = ", ".join(f"'{name}'" for name in repeated)
            raise ValueError(f"a column can have only one use (id, label, feature, drop); more than one for: {names}")
        return self
