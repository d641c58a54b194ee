"""The readable table and the JSON file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.reporting.findings import Findings, Row

SECTIONS = {
    "a": "kernels",
    "b": "one encrypted step, and its peers",
    "c": "the whole system",
    "d": "how the cost of a step grows",
    "e": "bytes and memory",
    "f": "alignment",
    "g": "connections",
}
_MET = {True: "[green]yes[/green]", False: "[bold red]no[/bold red]", None: ""}


def show(console: Console, findings: Findings, machine: dict[str, Any]) -> None:
    """Print a table for each section, with its notes below."""
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), highlight=False)
    for section, title in SECTIONS.items():
        rows = [row for row in findings.rows if row.section == section]
        if rows:
            console.print(_table(f"({section}) {title}", rows))
            console.print(_notes(rows))
    for reason in findings.skipped:
        console.print(f"skipped: {reason}", markup=False)
    console.print(_summary(findings))


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", justify="right", style="dim")
    table.add_column("what")
    table.add_column("measured", justify="right", no_wrap=True)
    table.add_column("reference")
    table.add_column("ratio", justify="right", no_wrap=True)
    table.add_column("target", no_wrap=True)
    table.add_column("met", no_wrap=True)
    for index, row in enumerate(rows, 1):
        table.add_row(
            str(index), escape(row.what), _measured(row), _reference(row), _ratio(row), _target(row), _MET[row.met]
        )
    return table


def _notes(rows: list[Row]) -> str:
    return "\n".join(f"[dim]{index:3}  {escape(row.note)}[/dim]" for index, row in enumerate(rows, 1) if row.note)


def _measured(row: Row) -> str:
    return f"{number(row.measured)} {row.unit}".strip()


def _reference(row: Row) -> str:
    return f"{escape(row.against)}: {number(row.reference)} {row.unit}" if row.reference is not None else ""


def _ratio(row: Row) -> str:
    if row.ratio is None:
        return ""
    return f"{number(row.ratio)}{row.means if row.reference is not None else ' of target'}"


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    unit = row.means if row.reference is not None else f" {row.unit}"
    return f"{row.target.words} {number(row.target.bound)}{unit}"


def _summary(findings: Findings) -> str:
    judged = [row.met for row in findings.rows if row.met is not None]
    return f"{sum(judged)} of {len(judged)} targets met"


def number(value: float) -> str:
    """Three significant digits, thousands grouped; scientific notation only if unavoidable."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}" if digits <= 6 else f"{value:.3g}"


def write_json(path: Path, findings: Findings, machine: dict[str, Any], effort: str, seconds: float) -> None:
    """Write all results, with a description of the machine."""
    content = {
        "machine": machine,
        "effort": effort,
        "seconds": round(seconds, 1),
        "rows": [_finite(row.as_json()) for row in findings.rows],
        "skipped": findings.skipped,
        "series": findings.series,
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity or NaN: non-finite numbers become null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
