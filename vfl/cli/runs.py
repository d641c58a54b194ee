"""``vfl runs``: the coordinator's record of its runs, how to resume one, and what a party has released in its runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vfl.cli.failures import reported
from vfl.errors import ConfigError
from vfl.run_records.reading import RunReader
from vfl.run_records.rows import Event, RunRecord, RunState
from vfl.runtime.foreign_text import printable

CELL_CHARACTERS = 5000
SHOWN_CHECKPOINTS = 5
SHOWN_EVENTS = 30
"""Only the most recent; ``--json`` has all."""

_STYLES = {
    RunState.RUNNING: "cyan",
    RunState.SAVED: "yellow",
    RunState.FINISHED: "green",
    RunState.FAILED: "bold red",
    RunState.STOPPED: "yellow",
}

app = typer.Typer(help="Runs of this coordinator: 'vfl runs' lists them, 'vfl runs show RUN' shows one in detail.")
RunsOption = Annotated[
    Path, typer.Option("--runs", help="The coordinator's record, 'runs.database' of coordinator.toml.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
DEFAULT = Path("runs.sqlite")


@app.callback(invoke_without_command=True)
def list_runs(context: typer.Context, runs: RunsOption = DEFAULT, as_json: JsonOption = False) -> None:
    """List the runs, most recent first."""
    context.obj = (runs, as_json)
    if context.invoked_subcommand is not None:
        return
    with reported(), _opened(runs) as store:
        records = store.runs()
        if as_json:
            typer.echo(json.dumps([asdict(record) for record in records], indent=2))
            return
        if not records:
            typer.echo(f"no runs yet in {runs}")
            return
        _show_list(Console(highlight=False), records)


@app.command()
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Name of a run, as 'vfl runs' shows it.")],
    runs: RunsOption = DEFAULT,
    as_json: JsonOption = False,
) -> None:
    """Show one run: its state, losses, checkpoints and events, and how to resume it."""
    before, json_before = context.obj
    with reported(), _opened(runs if runs != DEFAULT else before) as store:
        record = store.get(run)
        if as_json or json_before:
            typer.echo(json.dumps(_as_data(store, record), indent=2))
        else:
            _show_run(Console(highlight=False), store, record)


@app.command()
def spent(
    context: typer.Context,
    party: Annotated[Path, typer.Argument(help="party.toml of this organization.")],
    as_json: JsonOption = False,
    verify: Annotated[bool, typer.Option(help="First check every entry of the ledger; reads the whole file.")] = False,
) -> None:
    """Show how often this party has released its rows, over all runs: its disclosure ledger."""
    from vfl.configuration.toml_files import load_toml
    from vfl.party.config import PartyConfig
    from vfl.privacy.ledger.ledger import DisclosureLedger
    from vfl.privacy.ledger.summary import describe

    _, json_before = context.obj
    with reported():
        config = load_toml(party, PartyConfig)
        is_there = config.privacy.ledger.exists() or config.ledger_anchor.exists()
        with config.open_ledger() if is_there else DisclosureLedger.in_memory() as ledger:
            if verify:
                ledger.verify()
            summary = ledger.summary()
        if as_json or json_before:
            typer.echo(json.dumps(asdict(summary), indent=2))
            return
        for line in describe(summary, config.policy.max_releases_per_row):
            typer.echo(line)


def _opened(path: Path) -> RunReader:
    """Open the record without creating it.

    Raises:
        ConfigError: there is none.
    """
    if not path.exists():
        raise ConfigError(
            "there is no record of runs here",
            detail=f"looked for {path.absolute()}",
            remedy="pass the file that 'runs.database' in coordinator.toml names: --runs FILE",
        )
    return RunReader(path)


def _show_list(console: Console, records: list[RunRecord]) -> None:
    table = _table("run", "job", "state", ">step", ">attempt", "started", ">took")
    for record in records:
        table.add_row(
            _text(record.run),
            _text(record.job),
            _state(record),
            f"{record.step:,}",
            _attempt(record),
            _time(record.started),
            _took(record),
        )
    console.print(table)
    console.print(f"\n{len(records)} run(s); 'vfl runs show RUN' shows one in detail", style="dim")


def _show_run(console: Console, store: RunReader, record: RunRecord) -> None:
    facts = Table.grid(padding=(0, 2))
    for name, value in _facts(record):
        facts.add_row(Text(name, style="dim"), value if isinstance(value, Text) else _text(value))
    console.print(facts)
    events = store.events(record.run)
    earlier = len(events) - SHOWN_EVENTS
    for title, table in (
        ("Epochs", _epochs(store, record)),
        ("Checkpoints that all parties have", _checkpoints(store, record)),
        ("Events" + (f" ({earlier:,} earlier ones not shown)" if earlier > 0 else ""), _events(events)),
    ):
        if table.row_count:
            console.print(Text(f"\n{title}", style="bold"))
            console.print(table)
    console.print(Text(f"\n{_what_next(record)}"))


def _facts(record: RunRecord) -> Iterator[tuple[str, Text | str]]:
    yield "run", record.run
    yield "job", f"{record.job}, federation {record.federation}"
    yield "job file", record.job_file
    yield "state", _state(record)
    if record.error:
        yield "error", record.error
    yield "step", f"{record.step:,} is the last step with a checkpoint at all parties"
    yield "attempt", _attempt(record)
    yield "started", _time(record.started)
    yield "last update", f"{_time(record.updated)}, after {_took(record)}"


def _epochs(store: RunReader, record: RunRecord) -> Table:
    table = _table(">epoch", ">steps", ">mean loss", ">seconds", ">MB sent")
    for epoch in store.epochs(record.run):
        megabytes = epoch.bytes_sent / 1e6
        table.add_row(
            str(epoch.epoch + 1), f"{epoch.steps:,}", f"{epoch.loss:.4f}", f"{epoch.seconds:,.1f}", f"{megabytes:,.1f}"
        )
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


def _what_next(record: RunRecord) -> str:
    command = f"vfl run --resume {record.job_file}"
    match record.state:
        case RunState.FINISHED:
            return "The run is finished; there is nothing to do."
        case RunState.RUNNING:
            return f"If its coordinator is no longer running, resume with: {command}"
        case _:
            return f"Resume with: {command}"


def _as_data(store: RunReader, record: RunRecord) -> dict[str, Any]:
    return {
        **asdict(record),
        "outcome": store.outcome(record.run),
        "epochs": [asdict(epoch) for epoch in store.epochs(record.run)],
        "checkpoints": [asdict(found) for found in store.checkpoints(record.run)],
        "events": [asdict(event) for event in store.events(record.run)],
    }


# --- words ---


def _table(*headings: str) -> Table:
    """Columns by heading; ``>`` marks a column of numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        number = heading.startswith(">")
        wraps = heading in {"details", "parties", "job", "run"}
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
