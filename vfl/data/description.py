"""What was understood of a table, for the person who configures it: each column's kind, blanks, values and use.

It shows names of columns and of classes, counts, and the ends of ranges; no row. It is for its own organization.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from vfl.data.columns import ColumnReading
from vfl.data.config import ColumnKind, DataConfig
from vfl.data.table import Table
from vfl.runtime.foreign_text import printable, printable_lines

_WIDTH = 80
_FEW_LABELS = 20


@dataclass(frozen=True)
class ColumnDescription:
    """One column.

    Attributes:
        use: ``id``, ``label``, ``weight``, ``time``, ``feature``, ``left out`` or ``dropped``.
        kind: of a feature: ``numeric``, ``categorical``, or the parts of a date; empty otherwise.
        blanks: number of missing values; None where the column was not read.
        distinct: number of different values.
        range: of numbers, the smallest and the largest to three digits; empty otherwise.
        remark: why it is left out, or what a person should look at.
    """

    name: str
    use: str
    kind: str = ""
    blanks: int | None = None
    distinct: int | None = None
    range: str = ""
    remark: str = ""


@dataclass(frozen=True)
class TableDescription:
    """A whole table; ``str`` gives it as text of at most 80 columns.

    Attributes:
        rows: that can be used.
        without_id, without_label: rows that are left out.
        labels: distribution of the label, as text; empty at a passive party.
    """

    rows: int
    without_id: int
    without_label: int
    columns: tuple[ColumnDescription, ...]
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, table: Table, config: DataConfig) -> TableDescription:
        """Describe a table that was loaded."""
        columns = [ColumnDescription(name, "id") for name in config.id_columns]
        if config.label_column is not None:
            columns.append(ColumnDescription(config.label_column, "label"))
        if config.weight_column is not None:
            columns.append(ColumnDescription(config.weight_column, "weight"))
        if config.time_column is not None:
            columns.append(ColumnDescription(config.time_column, "time"))
        columns += [description for reading in table.understood.readings for description in _features(table, reading)]
        left_out = table.understood.left_out.items()
        columns += [ColumnDescription(name, "left out", remark=reason) for name, reason in left_out]
        columns += [ColumnDescription(name, "dropped") for name in config.drop]
        labels = () if table.labels is None else tuple(distribution(table.labels))
        return cls(len(table), table.dropped, table.unlabeled, tuple(columns), labels)

    def to_dict(self) -> dict[str, Any]:
        """The same as values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        skipped = [(self.without_id, "without an id"), (self.without_label, "without a label, left out")]
        lines = [", ".join([f"{self.rows} rows", *(f"{count} {what}" for count, what in skipped if count)])]
        width = min(28, max((len(printable(column.name)) for column in self.columns), default=0))
        lines.append(f"{'column':<{width}}  {'use':<18}{'blank':>8}{'distinct':>10}  range".rstrip())
        for column in self.columns:
            lines += _rows(column, width)
        if self.labels:
            lines += textwrap.wrap("label: " + ", ".join(self.labels), _WIDTH, subsequent_indent="  ")
        return printable_lines("\n".join(lines))

    __repr__ = __str__


def _rows(column: ColumnDescription, width: int) -> list[str]:
    blanks = "" if column.blanks is None else str(column.blanks)
    distinct = "" if column.distinct is None else str(column.distinct)
    shown_name = printable(column.name)  # a header may have line breaks, or what controls a terminal
    name = [shown_name] if len(shown_name) > width else []
    shown = f"{'' if name else shown_name:<{width}}  {column.kind or column.use:<18}{blanks:>8}{distinct:>10}"
    lines = [*name, f"{shown}  {column.range}".rstrip()]
    if column.remark:
        indent = " " * 4
        lines += textwrap.wrap(column.remark, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    return lines


def _features(table: Table, reading: ColumnReading) -> list[ColumnDescription]:
    remarks = table.understood.remarks
    if reading.use is ColumnKind.CATEGORICAL:
        values = table.categorical[:, table.categorical_names.index(reading.name)]
        counts = Counter(values.tolist())
        blanks = counts.pop(None, 0)
        remark = remarks.get(reading.name, "")
        return [ColumnDescription(reading.name, "feature", "categorical", blanks, len(counts), remark=remark)]
    found = []
    for at, name in enumerate(reading.numeric_names):
        numbers = table.numeric[:, table.numeric_names.index(name)]
        present = numbers[~np.isnan(numbers)]
        ends = f"{present.min():.3g} to {present.max():.3g}" if len(present) else ""
        kind = f"date: {reading.use[at]}" if isinstance(reading.use, tuple) else "numeric"
        remark = remarks.get(name) or remarks.get(reading.name, "")
        blanks, distinct = len(numbers) - len(present), len(np.unique(present))
        found.append(ColumnDescription(name, "feature", kind, blanks, distinct, ends, remark))
    return found


def distribution(labels: Any) -> list[str]:
    """Of labels (n,): each one with its share, or, of many numbers, how they are spread."""
    values, counts = np.unique(labels, return_counts=True)
    if len(values) <= _FEW_LABELS or labels.dtype.kind == "U":
        shown = list(zip(values.tolist(), counts.tolist(), strict=True))[:_FEW_LABELS]
        rest = [f"and {len(values) - _FEW_LABELS} others"] if len(values) > _FEW_LABELS else []
        return [f"{_plain(value)}: {count} ({count / len(labels):.1%})" for value, count in shown] + rest
    low, middle, high = np.quantile(labels, (0.0, 0.5, 1.0))
    return [f"{low:.3g} to {high:.3g}", f"median {middle:.3g}", f"mean {labels.mean():.3g}"]


def _plain(value: Any) -> str:
    return printable(value) if isinstance(value, str) else f"{value:g}"
