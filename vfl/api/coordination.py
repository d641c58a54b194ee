"""The coordinator's side in a host program: leads the parties of a federation through one run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vfl.api.blocking import run_blocking
from vfl.api.run import Run
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig, coordinator_beside
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.job.callbacks import Callback
from vfl.job.setup import load_job_setup
from vfl.pki.newest_lists import NewestLists


def train(
    job: str | Path,
    *,
    coordinator: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Lead the parties of a job's federation through one run, as ``vfl run`` does.

    Args:
        job: job.toml.
        coordinator: coordinator.toml; by default the one beside the job file, if any.
        resume: resume the latest run of this job that has not finished; begin one where there is none.
        callbacks: notified of the run's progress.

    Raises:
        VflError: what stopped the run; the parties have been informed.
    """
    return run_blocking(lambda: train_async(job, coordinator=coordinator, resume=resume, callbacks=callbacks))


async def train_async(
    job: str | Path,
    *,
    coordinator: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callback] = (),
    stopping: asyncio.Future[Any] | None = None,
) -> Run:
    """As ``train``. Cancel the task to stop, or give ``stopping`` a result: either way the parties are informed."""
    options = RunOptions(resume=resume, callbacks=callbacks)
    return await coordinate(Path(job), Path(coordinator) if coordinator else None, options, stopping)


async def coordinate(
    job_file: Path, coordinator_file: Path | None, options: RunOptions, stopping: asyncio.Future[Any] | None
) -> Run:
    """Read the coordinator's files and lead a run; its records go where they say."""
    job, federation, _ = load_job_setup(job_file)
    own = coordinator_settings(job_file, coordinator_file)
    options = replace(options, audit=own.audit, runs=None if options.count_only else own.runs, job_file=job_file)
    async with coordinator_network(federation, own.tls, NewestLists(own.newest_lists)) as network:
        return Run(await run_job(job, federation, network, options, stopping))


def coordinator_settings(job_file: Path, coordinator_file: Path | None) -> CoordinatorConfig:
    """The coordinator's own settings: those of the file, else of the one beside the job, else the defaults.

    Raises:
        ConfigError: the file is wrong.
    """
    beside = job_file.parent / "coordinator.toml"
    path = coordinator_file or (beside if beside.exists() else None)
    return load_toml(path, CoordinatorConfig) if path else coordinator_beside(job_file)
