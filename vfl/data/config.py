"""Where a party's table lies and what its columns mean: the data part of ``party.toml``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from vfl.configuration import LocalPath

ColumnName = Annotated[str, Field(min_length=1)]


class ColumnKind(StrEnum):
    """How the values of a feature column are read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class DataConfig(BaseModel):
    """A table and its columns. Column names are compared without surrounding white space, as headers are.

    Attributes:
        path: the file.
        format: ``auto`` goes by the file's suffix: ``.csv``, ``.parquet`` or ``.pq``.
        id_column: the ids that the parties have in common; read as text, so that "007" stays "007".
        label_column: what is predicted; only at the active party.
        columns: the features and their kinds, in the order wanted; columns not named are left out. Without it every
            column other than id, label and ``drop`` is a feature: text and booleans categorical, numbers numeric.
        drop: columns that are not read; each has to exist.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    path: LocalPath
    format: Literal["auto", "csv", "parquet"] = "auto"
    id_column: ColumnName
    label_column: ColumnName | None = None
    columns: dict[ColumnName, ColumnKind] | None = None
    drop: tuple[ColumnName, ...] = ()

    @model_validator(mode="after")
    def _one_use_per_column(self) -> Self:
        uses = [self.id_column, *(self.columns or {}), *self.drop]
        if self.label_column is not None:
            uses.append(self.label_column)
        repeated = sorted({name for name in uses if uses.count(name) > 1})
        if repeated:
            names = ", ".join(f"'{name}'" for name in repeated)
            raise ValueError(f"a column has one use only (id, label, feature or dropped), but used more often: {names}")
        return self
