"""``vfl sweep``: a job with several settings, in simulation on tables that one organization has, or on live parties."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from vfl.api.job import Job
from vfl.api.party import Party
from vfl.api.sweep import Trial, sweep, sweep_live
from vfl.cli.signals import until_signal
from vfl.errors import ConfigError
from vfl.job.config import JobConfig
from vfl.job.schedule import planned_releases
from vfl.run_records.strict_json import strict_json
from vfl.run_records.summary import metrics_in_words
from vfl.runtime.foreign_text import printable_lines

_SHOWN_RUNS = 16


def run_sweep(job: Path, parties: Sequence[Path], over: Sequence[str], json_file: Path | None) -> None:
    """Simulate every combination; print a row for each as it is done.

    Raises:
        ConfigError: files or keys are wrong, or not exactly one party has labels.
    """
    members = [Party.simulated(path) for path in parties]
    active = [party for party in members if party.table.label is not None]
    if len(active) != 1 or len(members) < 2:
        raise ConfigError(
            f"a sweep needs one party with labels and at least one without, and has {len(active)} of "
            f"{len(members)} with labels",
            remedy="name every party's file: --party bank/party.toml --party telco/party.toml",
        )
    passive = [party for party in members if party is not active[0]]
    trials = sweep(Job.from_toml(job), active=active[0], passive=passive, over=_values(over), done=_show)
    _finish(trials, json_file, "simulated")


def run_sweep_live(job: Path, coordinator: Path | None, over: Sequence[str], json_file: Path | None) -> None:
    """Run every combination on live parties; print what it will release, then a row for each as it is done.

    Raises:
        VflError: files or keys are wrong, or what ended the sweep before all were run.
    """
    values = _values(over)
    swept = asyncio.run(
        until_signal(
            lambda stop: sweep_live(
                job, over=values, coordinator=coordinator, begins=_show_releases, done=_show, stopping=stop
            )
        )
    )
    if swept.ended_by is not None:
        left = sum(trial.run is None for trial in swept.trials)
        typer.echo(f"the sweep ended early: {left} of {len(swept.trials)} combinations have no result")
        _write(swept.trials, json_file)
        raise swept.ended_by
    _finish(swept.trials, json_file, "run")


def _show_releases(jobs: Sequence[JobConfig]) -> None:
    each = [max(planned_releases(job).values()) for job in jobs]
    typer.echo(
        f"{len(jobs)} runs on live parties; together they release a row up to {sum(each)} times "
        f"({', '.join(map(str, each[:_SHOWN_RUNS]))}{', ...' if len(each) > _SHOWN_RUNS else ''}), which each party "
        "counts in its ledger. A run equal to an earlier one costs nothing"
    )


def _finish(trials: Sequence[Trial], json_file: Path | None, done: str) -> None:
    _write(trials, json_file)
    if all(trial.run is None for trial in trials):
        raise ConfigError(f"no combination of these settings could be {done}", remedy="see the reason of each above")


def _write(trials: Sequence[Trial], json_file: Path | None) -> None:
    if json_file is not None:
        json_file.write_text(strict_json([_as_data(trial) for trial in trials]) + "\n", encoding="utf-8")


def _values(over: Sequence[str]) -> dict[str, list[Any]]:
    return dict(_key_and_values(each) for each in over)


def _key_and_values(stated: str) -> tuple[str, list[Any]]:
    key, equals, values = stated.partition("=")
    if not (key and equals and values):
        raise ConfigError(
            f"'{stated}' is no key with values",
            remedy="state it as key=value,value, for instance --over training.optimizer.learning_rate=0.002,0.01",
        )
    try:
        listed: list[Any] = tomllib.loads(f"values = [{values}]")["values"]
    except tomllib.TOMLDecodeError:
        listed = [_value(text.strip()) for text in values.split(",")]
    return key.strip(), listed


def _value(text: str) -> Any:
    """As in TOML; what is no value there is text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _show(trial: Trial) -> None:
    stated = ", ".join(f"{key} = {value}" for key, value in trial.settings.items())
    if trial.run is None:
        typer.echo(printable_lines(f"{stated}: {trial.error}"))
        return
    typer.echo(f"{stated}: {metrics_in_words(trial.metrics)} ({trial.run.result.seconds_training:.1f} s of training)")


def _as_data(trial: Trial) -> dict[str, Any]:
    found = {"settings": dict(trial.settings), "error": trial.error, "metrics": trial.metrics}
    if trial.run is None:
        return found
    result = trial.run.result
    measured = {"seconds_training": result.seconds_training, "bytes_sent": result.training_bytes_sent}
    return found | {"test": result.test, "alone": result.alone} | measured
