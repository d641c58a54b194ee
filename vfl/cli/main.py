"""The ``vfl`` command: ``party``, ``run``, ``check`` and ``demo``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from vfl.cli.check import check_file
from vfl.cli.demo.command import demo
from vfl.cli.failures import errors_console, reported, show_error
from vfl.cli.logs import LogFormat, configure_logs
from vfl.cli.progress import ProgressObserver
from vfl.configuration import load_toml
from vfl.errors import ConfigError, VflError
from vfl.train.coordinator_process import run_job
from vfl.train.party_config import CoordinatorConfig, load_job_setup, load_party
from vfl.train.party_process import serve_party
from vfl.version import PACKAGE_VERSION

app = typer.Typer(
    help="Vertical federated learning with an exact, homomorphically encrypted interaction layer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo)
LogOption = Annotated[LogFormat, typer.Option("--log", help="Readable lines or one JSON object per event.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Print the version when asked."""
    if version:
        typer.echo(f"vfl {PACKAGE_VERSION}")
        raise typer.Exit


@app.command()
def party(
    file: Annotated[Path, typer.Argument(help="This party's party.toml.")],
    keep_serving: Annotated[bool, typer.Option(help="Wait for the next job when one has ended.")] = False,
    log: LogOption = LogFormat.TEXT,
) -> None:
    """Start this organisation's party process. It ends with the job, 0 on success."""
    configure_logs(log)
    with reported():
        setup = load_party(file)
        configure_logs(log, party=setup.name)
        error = asyncio.run(serve_party(setup, keep_serving=keep_serving))
        if error is not None:
            raise error


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    config: Annotated[
        Path | None, typer.Option(help="coordinator.toml; by default the one beside the job file, if any.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write what was measured to this JSON file.")] = None,
    log: LogOption = LogFormat.TEXT,
) -> None:
    """Run a job as the coordinator over the parties of its federation."""
    configure_logs(log, party="coordinator")
    with reported():
        settings, federation, _ = load_job_setup(job)
        if report and not report.parent.is_dir():
            raise ConfigError(
                "the report cannot be written", detail=f"{report.parent} is not a folder", remedy="correct --report"
            )
        beside = job.parent / "coordinator.toml"
        path = config or (beside if beside.exists() else None)
        coordinator = load_toml(path, CoordinatorConfig) if path else CoordinatorConfig()
        with ProgressObserver(errors_console, settings.training.epochs) as observer:
            outcome = asyncio.run(run_job(settings, federation, coordinator.tls, observer))
        if report:
            report.write_text(json.dumps(dataclasses.asdict(outcome), indent=2) + "\n", encoding="utf-8")


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="federation.toml, job.toml, party.toml files")]) -> None:
    """Validate configuration files, and the table a party file names, without starting anything."""
    configure_logs(LogFormat.TEXT)
    failed = 0
    for file in files:
        try:
            typer.echo(f"{file}: {check_file(file)}")
        except VflError as error:
            failed = failed or error.exit_code
            show_error(error, str(file))
    raise typer.Exit(failed)


if __name__ == "__main__":
    sys.exit(app())
