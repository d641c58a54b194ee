"""Where a party's table lies and what its columns mean: the data part of ``party.toml``."""

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
    """``[ids]`` of job.toml: how ids are written before they are compared; the same at every party.

    In this order: text is stripped of surrounding white space, ``white_space``, ``case``, Unicode NFC, ``type``. A row
    of which an id column is empty is left out and counted.

    Attributes:
        columns: how many columns make an id, in the order that every party lists them; joined with their lengths.
        type: ``integer`` reads decimal digits, so that "007", "+7" and "7" are one id; ``string`` keeps them apart.
        case: ``lower`` makes "Ab" and "aB" one id.
        white_space: ``remove`` takes away white space inside an id, too: "AB 12" and "AB12" are one id.
    """

    columns: Annotated[int, Field(ge=1, le=16)] = 1
    type: Literal["string", "integer"] = "string"
    case: Literal["keep", "lower"] = "keep"
    white_space: Literal["strip", "remove"] = "strip"


class DataConfig(BaseModel):
    """A table and its columns. Column names are compared without surrounding white space, as headers are.

    Attributes:
        path: the file.
        format: ``auto`` goes by the file's suffix: ``.csv``, ``.parquet`` or ``.pq``.
        id_column: the ids that the parties have in common, written as the job's ``[ids]`` says; a list where several
            columns make an id.
        label_column: what is predicted; only at the active party.
        columns: the features and their kinds, in the order wanted; columns not named are left out. Without it every
            column other than id, label and ``drop`` is a feature: text and booleans categorical, numbers numeric.
        drop: columns that are not read; each has to exist.
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
        """The columns that make an id, in order."""
        return (self.id_column,) if isinstance(self.id_column, str) else self.id_column

    @model_validator(mode="after")
    def _one_use_per_column(self) -> Self:
        uses = [*self.id_columns, *(self.columns or {}), *self.drop]
        if self.label_column is not None:
            uses.append(self.label_column)
        repeated = sorted({name for name in uses if uses.count(name) > 1})
        if repeated:
            names = ", ".join(f"'{name}'" for name in repeated)
            raise ValueError(f"a column has one use only (id, label, feature or dropped), but used more often: {names}")
        return self
