"""The same job with several settings: in simulation, where no ledger is charged, or on live parties, where each is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from vfl.api.coordination import coordinator_settings
from vfl.api.job import Job
from vfl.api.party import Party
from vfl.api.run import Run
from vfl.api.simulation import simulate
from vfl.configuration.federation import FederationConfig, load_federation
from vfl.configuration.toml_files import read_toml, validated
from vfl.coordinator.interruption import NEED_ANOTHER_JOB
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.errors import ConfigError, PolicyRefusal, VflError, original_code
from vfl.job.callbacks import Callback, Ready
from vfl.job.config import JobConfig
from vfl.job.setup import check_job, load_job
from vfl.pki.newest_lists import NewestLists

_OF_A_SETTING = NEED_ANOTHER_JOB | {ConfigError.code}
"""Errors that another setting may not have."""


@dataclass(frozen=True)
class Trial:
    """One combination of settings.

    Attributes:
        settings: by key of job.toml, with dots between table and key.
        run: what it gave; None if it failed.
        error: why it failed; empty if it did not.
    """

    settings: Mapping[str, Any]
    run: Run | None
    error: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Of the validation rows after the epoch whose model was kept if the job has any, else of the test rows."""
        if self.run is None:
            return {}
        best = self.run.result.best_epochs
        kept = [record for record in self.run.history if not best or record["epoch"] <= best[-1]]
        scored = {name: value for record in kept for name, value in record.items()}
        validation = {name: value for name, value in scored.items() if name.startswith("validation_")}
        return validation or self.run.test


def sweep(
    job: Job,
    *,
    active: Party,
    passive: Party | Sequence[Party],
    over: Mapping[str, Sequence[Any]],
    done: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Simulate a job with every combination of some settings, one after the other.

    Choose by validation rows (``split.validation``): whoever chooses by the test rows no longer knows how good the
    choice is. A combination that is refused, or fails, is a trial with an error.

    Args:
        over: values by key of job.toml, such as ``{"training.optimizer.learning_rate": [0.002, 0.01]}``.
        done: called with each trial when it is over.

    Raises:
        ConfigError: no values are given.
    """
    trials = []
    for settings in _combinations(over):
        try:
            run = simulate(Job.of_content(_with(job.stated, settings)), active=active, passive=passive)
            trials.append(Trial(settings, run))
        except VflError as error:
            trials.append(Trial(settings, None, _why(error)))
        done(trials[-1])
    return trials


@dataclass(frozen=True)
class LiveSweep:
    """A sweep on live parties.

    Attributes:
        trials: of every combination; those that were not run say so.
        ended_by: the error after which no other combination was tried; None if all were.
    """

    trials: list[Trial]
    ended_by: VflError | None


async def sweep_live(
    job_file: Path,
    *,
    over: Mapping[str, Sequence[Any]],
    coordinator: Path | None = None,
    begins: Callable[[list[JobConfig]], None] = lambda jobs: None,
    done: Callable[[Trial], None] = lambda trial: None,
    stopping: asyncio.Future[Any] | None = None,
) -> LiveSweep:
    """Run a job with every combination of some settings on live parties, as their coordinator, one after the other.

    The parties serve run after run (``vfl party --keep-serving``), and each accepts what differs from its own file
    (``[accept]``). Every run releases rows, which each party's ledger counts. A combination that a party's files or
    policy do not allow is a trial with an error. What the next ones need as well ends the sweep: too few releases left,
    a party that is gone, the operator.

    Args:
        job_file: job.toml.
        coordinator: coordinator.toml; by default the one beside the job file, if any.
        begins: called before the first run with the jobs that will be run.
        done: called with each trial when it is over.
        stopping: gets a result when the operator stops the sweep.

    Raises:
        ConfigError: no values are given, or a file is wrong.
    """
    own = coordinator_settings(job_file, coordinator)
    federation = load_federation(load_job(job_file).federation)
    combinations = _combinations(over)
    plans = [_planned(job_file, federation, settings) for settings in combinations]
    begins([plan for plan in plans if isinstance(plan, JobConfig)])
    trials: list[Trial] = []
    ended_by: VflError | None = None
    async with coordinator_network(federation, own.tls, NewestLists(own.newest_lists)) as network:
        for settings, plan in zip(combinations, plans, strict=True):
            trained = _Trained()
            options = RunOptions(audit=own.audit, runs=own.runs, job_file=job_file, callbacks=[trained])
            if isinstance(plan, VflError):
                trials.append(Trial(settings, None, _why(plan)))
            elif ended_by is not None:
                trials.append(Trial(settings, None, f"not run: {ended_by.summary}"))
            else:
                try:
                    trials.append(Trial(settings, Run(await run_job(plan, federation, network, options, stopping))))
                except VflError as error:
                    trials.append(Trial(settings, None, _why(error)))
                    ended_by = error if _ends(error, trained.begun) else None
            done(trials[-1])
    return LiveSweep(trials, ended_by)


class _Trained(Callback):
    """Notes that all parties have prepared the run and agreed on its rows."""

    begun = False

    def on_ready(self, ready: Ready) -> None:
        self.begun = True


def _planned(job_file: Path, federation: FederationConfig, settings: Mapping[str, Any]) -> JobConfig | VflError:
    try:
        content = _with(read_toml(job_file), settings)
        job = validated(content, JobConfig, "the job with these settings", directory=job_file.absolute().parent)
        check_job(job, federation)
    except VflError as error:
        return error
    return job


def _ends(error: VflError, begun: bool) -> bool:
    """Whether the next combinations would fail in the same way.

    Args:
        begun: the parties had accepted the job. What a party refuses later is about its rows and its ledger.
    """
    code = original_code(error)
    return code not in _OF_A_SETTING or (begun and code == PolicyRefusal.code)


def _combinations(over: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    if not over or not all(over.values()):
        raise ConfigError("there is nothing to sweep over", remedy="give at least one key, and a value for each")
    return [dict(zip(over, values, strict=True)) for values in product(*over.values())]


def _why(error: VflError) -> str:
    return f"{error.summary}: {error.detail}" if error.detail else error.summary


def _with(stated: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    content = deepcopy(dict(stated))
    for key, value in settings.items():
        *tables, last = key.split(".")
        at = content
        for table in tables:
            at = at.setdefault(table, {})
            if not isinstance(at, dict):
                raise ConfigError(f"'{table}' of '{key}' is no table of job.toml", remedy="correct the key")
        at[last] = value
    return content
