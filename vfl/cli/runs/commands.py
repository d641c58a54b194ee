"""The commands below ``vfl runs``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from vfl.cli.failures import reported
from vfl.cli.runs.output import as_data, show_list, show_run
from vfl.errors import ConfigError
from vfl.run_records.reading import RunReader
from vfl.run_records.strict_json import strict_json

app = typer.Typer(
    help="The runs of this coordinator, recorded in runs.sqlite: 'vfl runs' lists them, 'vfl runs show RUN' shows one "
    "in detail. With '--party party.toml', those that a party took part in; 'vfl runs spent party.toml' shows how "
    "often its rows were released, from its ledger."
)
RunsOption = Annotated[
    Path, typer.Option("--runs", help="The coordinator's record, 'runs.database' of coordinator.toml.")
]
PartyOption = Annotated[
    Path | None, typer.Option("--party", help="A party.toml: that party's own record, in place of a coordinator's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data instead of text.")]
DEFAULT = Path("runs.sqlite")


@app.callback(invoke_without_command=True)
def list_runs(
    context: typer.Context, runs: RunsOption = DEFAULT, party: PartyOption = None, as_json: JsonOption = False
) -> None:
    """List the runs, most recent first."""
    context.obj = (runs, party, as_json)
    if context.invoked_subcommand is not None:
        return
    with reported(), _opened(runs := _record_of(party, runs)) as store:
        records = store.runs()
        if as_json:
            typer.echo(strict_json([asdict(record) for record in records]))
            return
        if not records:
            typer.echo(f"no runs yet in {runs}")
            return
        show_list(Console(highlight=False), records)


@app.command()
def show(
    context: typer.Context,
    run: Annotated[str, typer.Argument(help="Name of a run, as 'vfl runs' shows it, or its beginning.")],
    runs: RunsOption = DEFAULT,
    party: PartyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one run: its state, losses and metrics, what interrupted it, checkpoints, and how to resume it."""
    before, party_before, json_before = context.obj
    party = party or party_before
    with reported(), _opened(path := _record_of(party, runs if runs != DEFAULT else before)) as store:
        record = store.find(run)
        if as_json or json_before:
            typer.echo(strict_json(as_data(store, record)))
        else:
            show_run(Console(highlight=False), store, record, path, of_party=party is not None)


@app.command()
def spent(
    context: typer.Context,
    party: Annotated[Path, typer.Argument(help="party.toml of this organization.")],
    as_json: JsonOption = False,
    verify: Annotated[bool, typer.Option(help="First check every entry of the ledger; reads the whole file.")] = False,
) -> None:
    """Show how often this party has released its rows, over all runs: its disclosure ledger.

    Noise averages out over releases of the same row, so a party limits them (policy.max_releases_per_row). One line for
    each run tells what it released, at which noise.
    """
    from vfl.configuration.toml_files import load_toml
    from vfl.party.config import PartyConfig
    from vfl.privacy.ledger.ledger import DisclosureLedger
    from vfl.privacy.ledger.summary import describe

    *_, json_before = context.obj
    with reported():
        config = load_toml(party, PartyConfig)
        is_there = config.privacy.ledger.exists() or config.ledger_anchor.exists()
        with config.open_ledger() if is_there else DisclosureLedger.in_memory() as ledger:
            if verify:
                ledger.verify()
            summary = ledger.summary()
        if as_json or json_before:
            typer.echo(strict_json(asdict(summary)))
            return
        for line in describe(summary, config.policy.max_releases_per_row):
            typer.echo(line)


def _record_of(party: Path | None, runs: Path) -> Path:
    """The file with the record: that which a party.toml names, or a coordinator's."""
    if party is None:
        return runs
    from vfl.configuration.toml_files import load_toml
    from vfl.party.config import PartyConfig

    return load_toml(party, PartyConfig).runs.database


def _opened(path: Path) -> RunReader:
    """Open the record without creating it.

    Raises:
        ConfigError: there is none.
    """
    if not path.exists():
        raise ConfigError(
            "there is no record of runs here",
            detail=f"looked for {path.absolute()}",
            remedy="pass the file that 'runs.database' in coordinator.toml names, --runs FILE; or a party's file, "
            "--party party.toml, whose record its first run creates",
        )
    return RunReader(path)
