"""Runs the coordinator: it connects to the parties and leads them through one run of a job."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vfl.audit.trail import AuditConfig, AuditTrail, Terms
from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.coordinator.coordinator import Coordinator, run_name
from vfl.errors import CheckpointError, JobAborted, MismatchError, VflError
from vfl.job.callbacks import Callback, Callbacks
from vfl.job.config import JobConfig
from vfl.job.digests import differing_tables, job_digest
from vfl.pki.credentials import load_credentials
from vfl.pki.expiry import watched
from vfl.pki.newest_lists import NewestLists
from vfl.run_records.journal import RunJournal
from vfl.run_records.result import RunResult
from vfl.run_records.store import RunsConfig, RunStore
from vfl.runtime.background import start_awaited
from vfl.runtime.logs import get_logger
from vfl.transport.channels import Network
from vfl.transport.grpc_network import GrpcNetwork

_log = get_logger("vfl.coordinator")


@dataclass(frozen=True)
class RunOptions:
    """How a run is named, recorded and reported.

    Attributes:
        run_id: makes the run's name unique; random by default.
        audit: where the coordinator writes its audit log; None for no log.
        runs: where the progress of runs is recorded; None discards the record when this process ends.
        job_file: path that the job was read from, shown when runs are inspected.
        resume: resume the latest unfinished run of the job; begin a new one if there is none.
        count_only: only count the ids that the parties have in common.
        callbacks: notified of the run's progress.
    """

    run_id: str | None = None
    audit: AuditConfig | None = None
    runs: RunsConfig | None = None
    job_file: Path = Path("job.toml")
    resume: bool = False
    count_only: bool = False
    callbacks: Sequence[Callback] = ()


@contextlib.asynccontextmanager
async def coordinator_network(
    federation: FederationConfig, tls: TlsFiles | None, newest_lists: NewestLists | None = None
) -> AsyncIterator[Network]:
    """The coordinator's gRPC network to the parties.

    Args:
        newest_lists: which revocation lists it has used before.

    Raises:
        ConfigError: certificate files are missing or invalid.
    """
    credentials = load_credentials(
        tls, federation, federation.coordinator, file="coordinator.toml", newest_lists=newest_lists
    )
    async with watched(credentials):
        yield GrpcNetwork(federation, credentials)


async def run_job(
    job: JobConfig,
    federation: FederationConfig,
    network: Network,
    options: RunOptions = RunOptions(),
    stopping: asyncio.Future[Any] | None = None,
) -> RunResult:
    """Lead the parties of a federation through one run of a job.

    Args:
        stopping: gets a result when the operator stops the run.

    Raises:
        MismatchError: the run to be resumed was started with different files.
        VflError: what stopped the run. ``JobAborted`` if the operator did; it says where.
        asyncio.CancelledError: the task was cancelled; the parties have been informed.
    """
    with _store(options.runs) as store:
        run = _latest(store, job, federation) if options.resume else None
        if run is None:
            run = run_name(job, options.run_id or secrets.token_hex(4))
            store.begin(run, job.name, federation.name, job_digest(job, federation), str(options.job_file))
        journal = RunJournal(store, run)
        with _ended(journal), _audited(job, federation, run, options.audit) as trail:
            return await _run(job, federation, network, journal, options, trail, stopping)


@contextlib.contextmanager
def _store(runs: RunsConfig | None) -> Iterator[RunStore]:
    with contextlib.ExitStack() as stack:
        path = runs.database if runs else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "runs.sqlite"
        yield stack.enter_context(RunStore(path))


def _latest(store: RunStore, job: JobConfig, federation: FederationConfig) -> str | None:
    record = store.latest_unfinished(job.name)
    if record is None:
        _log.info("no unfinished run of this job: starting a new one", job=job.name)
        return None
    if tables := differing_tables(job_digest(job, federation), record.digest):
        raise MismatchError(
            f"{record.run} was started with different files: they differ in {', '.join(tables)}",
            remedy="restore job.toml and federation.toml, or start a new run without --resume",
        )
    _log.info("resuming a run", run=record.run, step=record.step, state=str(record.state))
    return record.run


@contextlib.contextmanager
def _ended(journal: RunJournal) -> Iterator[None]:
    """Record in the journal what ended the run."""
    try:
        yield
    except VflError as error:
        try:
            journal.stop(None if isinstance(error, JobAborted) else error)
        except CheckpointError as unwritable:  # must not hide why the run ended
            _log.error("the end of the run could not be recorded", reason=str(unwritable))
        raise


async def _run(
    job: JobConfig,
    federation: FederationConfig,
    network: Network,
    journal: RunJournal,
    options: RunOptions,
    trail: AuditTrail | None,
    stopping: asyncio.Future[Any] | None,
) -> RunResult:
    async with AsyncExitStack() as stack:
        clients = {name: await network.control(stack, name, trail) for name in federation.names}
        coordinator = Coordinator(job, federation, clients, journal, Callbacks(options.callbacks))
        work = start_awaited(coordinator.count_common_ids() if options.count_only else coordinator.run())
        stopped = stopping or asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            where = coordinator.where
            await _cancelled(work)
            raise JobAborted(f"stopped by the operator during {where}; the parties were informed")
        finally:
            await _cancelled(work)


async def _cancelled(work: asyncio.Future[RunResult]) -> None:
    """Cancel the work; the parties are informed before this returns."""
    work.cancel()
    await asyncio.wait({work})


@contextlib.contextmanager
def _audited(
    job: JobConfig, federation: FederationConfig, run: str, audit: AuditConfig | None
) -> Iterator[AuditTrail | None]:
    """The coordinator's audit log, closed with what ended the run."""
    if audit is None:
        yield None
        return
    trail = AuditTrail(audit.directory, Terms(federation.coordinator, job, federation))
    trail.open(run, 0)
    error: VflError | None = JobAborted("the process was stopped")
    try:
        yield trail
        error = None
    except VflError as raised:
        error = raised
        raise
    finally:
        trail.close(error)
