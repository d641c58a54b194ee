"""What ``vfl runs`` prints: for people in a terminal of any width, and data for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vfl.coordinator.config import CoordinatorConfig
from vfl.run_records.reading import RunReader
from vfl.run_records.result import BEST, RunResult
from vfl.run_records.rows import Event, RunRecord, RunState
from vfl.run_records.summary import metrics_in_words, summary_of
from vfl.runtime.foreign_text import printable

CELL_CHARACTERS = 5000
SHOWN_CHECKPOINTS = 5
SHOWN_EVENTS = 30
"""Only the most recent; ``--json`` has all."""

_ANY_WIDTH = 10_000

_STYLES = {
    RunState.RUNNING: "cyan",
    RunState.SAVED: "yellow",
    RunState.FINISHED: "green",
    RunState.FAILED: "bold red",
    RunState.STOPPED: "yellow",
}


def show_list(console: Console, records: Sequence[RunRecord]) -> None:
    """One row for each run or, where names are too long for that, a few lines."""
    table = _table("run", "state", ">step", ">attempt", "started", ">took")
    for record in records:
        facts = f"{record.step:,}", _attempt(record), _time(record.started), _took(record)
        table.add_row(_text(record.run), _state(record), *facts)
    if console.measure(table, options=console.options.update(max_width=_ANY_WIDTH)).maximum <= console.width:
        console.print(table)
    else:
        for record in records:
            console.print(_text(record.run), soft_wrap=True)
            rest = f", step {record.step:,}, attempt {_attempt(record)}, took {_took(record)}"
            console.print(Text("  ").append_text(_state(record)).append(rest))
            console.print(f"  started {_time(record.started)}")
    console.print(f"\n{len(records)} run(s); 'vfl runs show RUN' shows one in detail", style="dim")


def show_run(console: Console, store: RunReader, record: RunRecord, path: Path, *, of_party: bool = False) -> None:
    """Everything about one run.

    Args:
        path: of the record, beside which the coordinator's file may be.
        of_party: the record is a party's own.
    """
    result = _result(store, record)
    for name, value in _facts(record, result):
        line = Text(f"{name:<12} ", style="dim")
        console.print(line.append_text(value if isinstance(value, Text) else _text(value)), soft_wrap=True)
    events = store.events(record.run)
    earlier = len(events) - SHOWN_EVENTS
    for title, table in (
        ("Epochs", _epochs(store, record, result)),
        ("Interruptions that it recovered from", _interruptions(result)),
        ("Checkpoints that all parties have", _checkpoints(store, record)),
        ("Events" + (f" ({earlier:,} earlier ones not shown)" if earlier > 0 else ""), _events(events)),
    ):
        if table.row_count:
            console.print(Text(f"\n{title}", style="bold"))
            console.print(table)
    console.print(Text(f"\n{_what_next_at_party(record) if of_party else _what_next(record, path)}"), soft_wrap=True)


def _result(store: RunReader, record: RunRecord) -> RunResult:
    """What was measured so far: at the end of the run, or up to the newest checkpoint."""
    outcome = store.outcome(record.run)
    texts = [outcome] if outcome else [found.progress for found in store.checkpoints(record.run)[:1]]
    for text in texts:
        content = json.loads(text)
        if "run" in content:
            return RunResult.from_json(text)
    return RunResult(record.run)


def _facts(record: RunRecord, result: RunResult) -> Iterator[tuple[str, Text | str]]:
    yield "run", record.run
    yield "job", f"{record.job}, federation {record.federation}"
    yield "job file", record.job_file
    yield "state", _state(record)
    if record.error:
        yield "error", record.error
    if result.test:
        yield "test", metrics_in_words(result.test)
    if result.rows:
        yield "rows", f"{result.rows:,} in common, {result.train_rows:,} of them for training"
    yield "step", f"{record.step:,} is the last step with a checkpoint at all parties"
    yield "attempt", _attempt(record)
    yield "started", _time(record.started)
    yield "last update", f"{_time(record.updated)}, after {_took(record)}"


def _epochs(store: RunReader, record: RunRecord, result: RunResult) -> Table:
    scored = dict(enumerate(result.history, 1))  # passes that were left out have no steps, either
    names = sorted({name for entry in scored.values() for name in entry} - {"epoch", "loss", BEST})
    headings = [f">{name.removeprefix('validation_').replace('_', ' ')}" for name in names]
    kept = ["model"] if result.best_epochs else []
    table = _table(">epoch", ">steps", ">mean loss", ">seconds", ">MB sent", *headings, *kept)
    for epoch in store.epochs(record.run):
        measured = scored.get(epoch.epoch, {})
        table.add_row(
            str(int(measured.get("epoch", epoch.epoch))),
            f"{epoch.steps:,}",
            f"{epoch.loss:.4f}",
            f"{epoch.seconds:,.1f}",
            f"{epoch.bytes_sent / 1e6:,.1f}",
            *(f"{measured[name]:.4f}" if name in measured else "" for name in names),
            *("kept" if BEST in measured else "" for _ in kept),
        )
    return table


def _interruptions(result: RunResult) -> Table:
    table = _table("during", "why", ">steps lost", ">seconds")
    for found in result.recoveries:
        table.add_row(_text(found.where), _text(found.reason), f"{found.steps_lost:,}", f"{found.seconds:,.1f}")
    return table


def _checkpoints(store: RunReader, record: RunRecord) -> Table:
    table = _table(">step", ">attempt", "survives", "parties")
    for found in store.checkpoints(record.run)[:SHOWN_CHECKPOINTS]:
        survives = "a power cut" if found.durable else "a killed process"
        table.add_row(f"{found.step:,}", str(found.attempt), survives, _text(", ".join(found.parties)))
    return table


def _events(events: Sequence[Event]) -> Table:
    table = _table("when", "what", "details")
    for event in events[-SHOWN_EVENTS:]:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in event.facts.items())
        told = f"{event.text} ({facts})" if facts else event.text
        table.add_row(_time(event.time), _text(event.kind), _text(told))
    return table


def _what_next(record: RunRecord, path: Path) -> str:
    own = path.absolute().parent / "coordinator.toml"
    # Without --config, the file beside the job is used.
    config = f" --config {own}" if own.exists() and own.parent != Path(record.job_file).parent else ""
    command = f"vfl run --resume {record.job_file}{config}"
    match record.state:
        case RunState.FINISHED:
            return "The run is finished; there is nothing to do."
        case RunState.RUNNING:
            return f"If its coordinator is no longer running, resume with: {command}"
        case _:
            return f"Resume with: {command}"


def _what_next_at_party(record: RunRecord) -> str:
    if record.state is RunState.FINISHED:
        return "The run is finished; there is nothing to do."
    return "The coordinator can resume the run. If this party's process is not running, start it: vfl party party.toml"


def results(result: RunResult, settings: CoordinatorConfig, report: Path | None) -> Iterator[str]:
    """What a run came to, and where more of it is, line by line.

    Args:
        settings: the coordinator's, which say where its files are.
        report: the report that was written, if any.
    """
    yield summary_of(result)
    files = [f"report: {report}"] if report else []
    files += [
        f"record: {settings.runs.database} ('vfl runs show {result.run}')",
        f"audit log in {settings.audit.directory}",
    ]
    yield f"each party has its part of the model; {', '.join(files)}"


def as_data(store: RunReader, record: RunRecord) -> dict[str, Any]:
    """Everything that is recorded about a run; epochs count from 1."""
    outcome, checkpoints = store.outcome(record.run), store.checkpoints(record.run)
    return {
        **asdict(record),
        "outcome": json.loads(outcome) if outcome else None,
        "epochs": [asdict(epoch) for epoch in store.epochs(record.run)],
        "checkpoints": [{**asdict(found), "progress": json.loads(found.progress)} for found in checkpoints],
        "events": [asdict(event) for event in store.events(record.run)],
    }


# --- words ---


def _table(*headings: str) -> Table:
    """Columns by heading; ``>`` marks a column of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        number = heading.startswith(">")
        wraps = heading in {"details", "parties", "during", "why"}
        table.add_column(
            heading.removeprefix(">"),
            justify="right" if number else "left",
            no_wrap=not wraps,
            overflow="fold",
            min_width=8 if wraps else None,
        )
    return table


def _text(text: str) -> Text:
    """Errors and events have texts of the parties in them."""
    return Text(printable(text, CELL_CHARACTERS))


def _state(record: RunRecord) -> Text:
    return Text(str(record.state), style=_STYLES[record.state])


def _attempt(record: RunRecord) -> str:
    return str(record.attempt) if record.attempt >= 0 else "-"


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S}"


def _took(record: RunRecord) -> str:
    minutes, seconds = divmod(round(record.updated - record.started), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
