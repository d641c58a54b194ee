"""Where a party's table is and what its columns mean: ``[data]`` of ``party.toml``, ``[ids]`` of ``job.toml``."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vfl.configuration.toml_files import Configuration, LocalPath
from vfl.models.tasks.class_order import ClassOrder

ColumnName = Annotated[str, Field(min_length=1)]


class ColumnKind(StrEnum):
    """How the values of a feature column are read."""

    NUMERIC = "numeric"
    CATEGORICAL = "categorical"


class DatePart(StrEnum):
    """A number that a date or time gives: ``days`` since 1970-01-01, with the time of day as a fraction; ``year``;
    ``month`` 1 to 12; ``day`` of the month; ``weekday`` 1 (Monday) to 7; ``hour`` 0 to 23."""

    DAYS = "days"
    YEAR = "year"
    MONTH = "month"
    DAY = "day"
    WEEKDAY = "weekday"
    HOUR = "hour"


ColumnUse = ColumnKind | tuple[DatePart, ...]
"""What a column is read as: a kind, or one or more parts of a date, each a numeric column of its own."""


def _column_use(stated: Any) -> Any:
    """A kind by its name; the name of a part of a date, or a list of them, as a tuple."""
    if isinstance(stated, str) and stated in tuple(ColumnKind):
        return ColumnKind(stated)
    parts = [stated] if isinstance(stated, str) else stated
    if not isinstance(parts, Sequence) or not parts or any(part not in tuple(DatePart) for part in parts):
        raise ValueError(
            f"there is no such kind of column: use {_quoted(ColumnKind)} or, for dates and times, one or a list of "
            f"{_quoted(DatePart)}"
        )
    if len(set(parts)) < len(parts):
        raise ValueError("a part of a date is listed twice")
    return tuple(DatePart(part) for part in parts)


def _label_name(stated: Any) -> Any:
    """A label as text: whole numbers and booleans as a table's are."""
    if isinstance(stated, bool):
        return str(int(stated))
    return str(stated).removesuffix(".0") if isinstance(stated, int | float) else stated


LabelName = Annotated[str, BeforeValidator(_label_name), Field(min_length=1)]


def _quoted(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)


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
        format: ``auto`` determines it by the suffix: ``.csv`` or ``.tsv``, also with ``.gz``; ``.parquet``, ``.pq``.
        separator: between the fields of a CSV file; by default whichever the header has most of.
        decimal: of numbers in a CSV file; by default determined for each column.
        encoding: of a CSV file, by a name that Python knows.
        missing: further texts that count as missing values, in all columns but the ids.
        date_format: of dates in text, as of ``strptime``; ISO 8601 and unambiguous forms need none.
        id_column: the ids on which the parties' tables are matched, normalized by the job's ``[ids]``; a list if
            several columns form an id.
        label_column: what is predicted; only at the active party.
        positive_label: of two labels that are words, the one whose probability is predicted.
        classes: labels of a multiclass task in the desired order; by default sorted.
        rows_without_label: whether they are refused, or left out and counted.
        weight_column: a weight above 0 for each row in the loss; only at the active party.
        time_column: dates, times or numbers by which a job with ``split.by = "time"`` splits the rows; only at the
            active party. It is a feature only if ``columns`` or ``features`` names it, too.
        columns: kinds of some columns, in place of what would be inferred: ``numeric``, ``categorical``, parts of a
            date. Without an entry, numbers are numeric, text and booleans categorical.
        features: the columns to use, in this order. If omitted, all but id, label, weight, time and ``drop``, without
            those that cannot help: blank and constant ones, and texts of which nearly every one is different.
        drop: columns to ignore; each must exist.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    path: LocalPath
    format: Literal["auto", "csv", "parquet"] = "auto"
    separator: Literal["auto", ",", ";", "tab", "|"] = "auto"
    decimal: Literal["auto", ".", ","] = "auto"
    encoding: str = "utf-8"
    missing: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    date_format: str | None = None
    id_column: ColumnName | Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    label_column: ColumnName | None = None
    positive_label: LabelName | None = None
    classes: Annotated[tuple[LabelName, ...], Field(min_length=3)] | None = None
    rows_without_label: Literal["refuse", "leave out"] = "refuse"
    weight_column: ColumnName | None = None
    time_column: ColumnName | None = None
    columns: dict[ColumnName, Annotated[ColumnUse, BeforeValidator(_column_use)]] = Field(default_factory=dict)
    features: tuple[ColumnName, ...] | None = None
    drop: tuple[ColumnName, ...] = ()

    @property
    def id_columns(self) -> tuple[str, ...]:
        """The columns that form an id, in order."""
        return (self.id_column,) if isinstance(self.id_column, str) else self.id_column

    @property
    def class_order(self) -> ClassOrder:
        """What it says of the labels."""
        return ClassOrder(self.positive_label, self.classes)

    @property
    def not_features(self) -> tuple[str, ...]:
        """Columns with another use."""
        others = (self.label_column, self.weight_column, None if self._time_is_feature else self.time_column)
        return (*self.id_columns, *(name for name in others if name is not None), *self.drop)

    @property
    def _time_is_feature(self) -> bool:
        return self.time_column in (*self.columns, *(self.features or ()))

    @property
    def named_columns(self) -> tuple[str, ...]:
        """All columns that the table must have."""
        return (*self.not_features, *self.columns, *(self.features or ()))

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            return codecs.lookup(name).name
        except LookupError:
            raise ValueError("there is no such encoding; there are utf-8, gb18030, cp1252 and others") from None

    @model_validator(mode="after")
    def _one_use_per_column(self) -> Self:
        uses = [*self.not_features, *(self.features if self.features is not None else self.columns)]
        repeated = sorted({name for name in uses if uses.count(name) > 1})
        if repeated:
            names = ", ".join(f"'{name}'" for name in repeated)
            raise ValueError(
                f"a column can have only one use (id, label, weight, time, feature, drop); more than one for: {names}"
            )
        return self

    @model_validator(mode="after")
    def _kinds_of_features(self) -> Self:
        if self.features is not None and (stray := sorted(set(self.columns) - set(self.features))):
            names = ", ".join(f"'{name}'" for name in stray)
            raise ValueError(f"columns states kinds of {names}, which are not among the features")
        return self

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        about_labels = {
            "positive_label": self.positive_label,
            "classes": self.classes,
            "weight_column": self.weight_column,
            "rows_without_label": None if self.rows_without_label == "refuse" else self.rows_without_label,
        }
        if self.label_column is None and (stray := [key for key, value in about_labels.items() if value is not None]):
            raise ValueError(f"{', '.join(stray)} apply to a table with label_column only")
        if self.positive_label is not None and self.classes is not None:
            raise ValueError("positive_label is for two classes, and classes for more: remove one of them")
        if self.classes is not None and len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be distinct")
        return self
