"""The ``vfl`` command: ``party``, ``run``, ``runs``, ``align``, ``check``, ``doctor``, ``keys``, ``audit``, ``demo``.

Each command imports what it needs when it is called: all of it takes seconds, and a coordinator needs no models.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from vfl.cli import audit, keys, runs
from vfl.cli.demo.datasets import DATASETS
from vfl.cli.failures import errors_console, reported, show_error
from vfl.cli.logs import LogFormat, LogOption, VerboseOption, configure_logs
from vfl.cli.progress import ProgressBar
from vfl.errors import ConfigError, VflError
from vfl.run_records.curves import CURVES_FILE, curves_png
from vfl.run_records.strict_json import strict_json
from vfl.runtime.foreign_text import printable_lines
from vfl.runtime.private.files import write_report
from vfl.version import PACKAGE_VERSION

if TYPE_CHECKING:
    from vfl.run_records.result import RunResult

app = typer.Typer(
    help="Vertical federated learning with an exact, homomorphically encrypted interaction layer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.add_typer(keys.app, name="keys")
app.add_typer(audit.app, name="audit")
app.add_typer(runs.app, name="runs")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    """Print the version on request."""
    if version:
        typer.echo(f"vfl {PACKAGE_VERSION}")
        raise typer.Exit


@app.command()
def party(
    files: Annotated[
        list[Path],
        typer.Argument(help="This party's party.toml; several files, one per job, are served simultaneously."),
    ],
    keep_serving: Annotated[bool, typer.Option(help="When a run has ended, wait for the next one.")] = False,
    log: LogOption = LogFormat.TEXT,
    verbose: VerboseOption = False,
) -> None:
    """Start this organization's party process. It exits when its run is over, with 0 on success."""
    configure_logs(log, verbose=verbose)
    with reported():
        import torch

        from vfl.api.party import Party, serve_async
        from vfl.cli.signals import until_signal
        from vfl.party.table_check import report_at_start

        parties = [Party.from_toml(file) for file in files]
        configure_logs(log, verbose=verbose, party=parties[0].name)
        torch.set_num_threads(parties[0].files.config.model_threads)  # this process is the party's alone
        for party in parties:
            # Like the log, and unlike standard output, this never fails and never waits for a reader.
            errors_console.print(Text(printable_lines(report_at_start(party.files))), soft_wrap=True)
        asyncio.run(until_signal(lambda stop: serve_async(*parties, keep_serving=keep_serving, stopping=stop)))


@app.command()
def run(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    config: Annotated[
        Path | None, typer.Option(help="coordinator.toml; by default the one in the job file's folder, if any.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write the results to this JSON file, and curves.png beside it.")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Resume the latest unfinished run of this job; if there is none, start a new run.")
    ] = False,
    log: LogOption = LogFormat.TEXT,
    verbose: VerboseOption = False,
) -> None:
    """Run a job, as the coordinator of the parties of its federation."""
    from vfl.api.coordination import coordinate, coordinator_settings
    from vfl.cli.runs.output import results
    from vfl.cli.signals import until_signal
    from vfl.coordinator.process import RunOptions
    from vfl.job.plan import Plan
    from vfl.job.setup import load_job

    configure_logs(log, verbose=verbose, party="coordinator")
    with reported():
        epochs = Plan(load_job(job)).counted_epochs
        if report:
            _check_writable(report)
        with ProgressBar(errors_console, epochs) as progress:
            options = RunOptions(resume=resume, callbacks=[progress])
            done = asyncio.run(until_signal(lambda stop: coordinate(job, config, options, stop)))
        if report:
            _write_report(done.result, report)
        for line in results(done.result, coordinator_settings(job, config), report):
            typer.echo(line)


def _check_writable(report: Path) -> None:
    if report.is_dir() or not report.parent.is_dir():
        why = f"{report} is a folder" if report.is_dir() else f"{report.parent} is not a folder"
        raise ConfigError("the report cannot be written", detail=why, remedy="correct --report")


def _write_report(outcome: RunResult, file: Path) -> None:
    try:
        write_report(file, strict_json(outcome.report()) + "\n")
        # Beside a device there is no place for a picture.
        if file.is_file() and not file.is_symlink() and (picture := curves_png(outcome.history, outcome.run)):
            write_report(file.with_name(CURVES_FILE), picture)
    except OSError as error:
        raise ConfigError(
            "the run is finished, and its report cannot be written",
            detail=str(error),
            remedy=f"'vfl runs show {outcome.run} --json' has the same numbers",
        ) from error


@app.command()
def align(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    config: Annotated[
        Path | None, typer.Option(help="coordinator.toml; by default the one in the job file's folder, if any.")
    ] = None,
    log: LogOption = LogFormat.TEXT,
    verbose: VerboseOption = False,
) -> None:
    """Count the rows that all parties have in common, as the coordinator. Nobody learns which they are."""
    from vfl.api.coordination import coordinate
    from vfl.cli.signals import until_signal
    from vfl.coordinator.process import RunOptions

    configure_logs(log, verbose=verbose, party="coordinator")
    with reported():
        options = RunOptions(count_only=True)
        result = asyncio.run(until_signal(lambda stop: coordinate(job, config, options, stop))).result
        for party, rows in result.party_rows.items():
            typer.echo(f"{party}: {rows} rows with an id, {result.rows_without_id[party]} without")
        typer.echo(f"in common: {result.rows} rows ({result.seconds_alignment:.1f} s)")


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="federation.toml, job.toml, party.toml files")]) -> None:
    """Validate configuration files, and the table a party file names, without starting anything."""
    from vfl.cli.check import check_file

    configure_logs(LogFormat.TEXT)
    failed = 0
    with reported():
        for file in files:
            try:
                typer.echo(f"{file}: {check_file(file, files)}")
            except VflError as error:
                failed = failed or error.exit_code
                show_error(error, str(file))
    raise typer.Exit(failed)


@app.command()
def sweep(
    job: Annotated[Path, typer.Argument(help="job.toml")],
    over: Annotated[list[str], typer.Option(help="A key of job.toml and values, KEY=VALUE,VALUE; may be repeated.")],
    party: Annotated[
        list[Path] | None, typer.Option(help="A party.toml; once for every party, whose table must be here.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Run on live parties, started with --keep-serving; their ledgers count it.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="With --live: coordinator.toml; by default the one in the job file's folder.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the results to this JSON file.")] = None,
    log: LogOption = LogFormat.TEXT,
    verbose: VerboseOption = False,
) -> None:
    """Try a job with several settings: in this process, which charges no ledger, or with --live on live parties."""
    from vfl.cli.sweep import run_sweep, run_sweep_live

    # The events of a run for each combination would fill the screen.
    configure_logs(log, verbose=verbose, brief=True, party="sweep")
    with reported():
        if live and party:
            raise ConfigError("a live sweep has parties of its own", remedy="leave out --party, or --live")
        if live:
            run_sweep_live(job, config, over, json_file)
        else:
            run_sweep(job, party or [], over, json_file)


@app.command()
def doctor(
    file: Annotated[Path, typer.Argument(help="job.toml for the coordinator's view, party.toml for a party's.")],
    config: Annotated[
        Path | None, typer.Option(help="coordinator.toml; by default the one in the job file's folder, if any.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the findings to this JSON file.")] = None,
    brief: Annotated[bool, typer.Option("--brief", help="Hide checks that passed.")] = False,
    log: LogOption = LogFormat.TEXT,
    verbose: VerboseOption = False,
) -> None:
    """Find out what would stop a run, and who needs to fix what, while the parties wait. Starts no run."""
    from vfl.api.coordination import coordinator_settings
    from vfl.cli.check import Kind, kind_of
    from vfl.cli.doctor import diagnose_job, diagnose_party, exit_code, show_findings, write_findings

    configure_logs(log, verbose=verbose, party="doctor")
    with reported():
        match kind_of(file):
            case Kind.PARTY:
                findings = asyncio.run(diagnose_party(file))
            case Kind.JOB:
                findings = asyncio.run(diagnose_job(file, lambda: coordinator_settings(file, config)))
            case kind:
                raise ConfigError(
                    "'vfl doctor' needs a job file or a party file",
                    detail=f"{file} looks like a {kind} file",
                    remedy="give it job.toml as the coordinator, party.toml as a party",
                )
        code = exit_code(findings)
        if json_file:
            write_findings(findings, code, json_file)
        show_findings(findings, Console(), brief=brief)
    raise typer.Exit(code)


@app.command()
def demo(
    dataset: Annotated[str, typer.Option(help=f"One of {', '.join(DATASETS)}.")] = "breast",
    data: Annotated[Path | None, typer.Option(help="Folder with the tables, unless the data set is built in.")] = None,
    parties: Annotated[int, typer.Option(help="Number of organizations, the active one included.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder for configuration, logs and report.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of split, batches and initial weights.")] = 3,
    overlap: Annotated[
        float, typer.Option(help="Share of the rows that each party keeps; each party drops different rows.")
    ] = 0.9,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of the active party alone at the end; with --trainable, passes of everybody."),
    ] = None,
    trainable: Annotated[
        bool,
        typer.Option(help="Train the passive parties' bottoms, too: they can infer labels from what they receive."),
    ] = False,
    only_write: Annotated[bool, typer.Option(help="Write the files and show the commands to run by hand.")] = False,
) -> None:
    """Train a joint model with real processes on this machine and compare it with what each side achieves alone."""
    from vfl.cli.demo.command import run_demo

    configure_logs(LogFormat.TEXT, party="demo")
    with reported():
        run_demo(dataset, data, parties, out, seed, overlap, epochs, trainable=trainable, only_write=only_write)
