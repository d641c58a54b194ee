"""The coordinator's process: connect to the parties, run one job."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from vfl.audit.trail import AuditConfig, AuditTrail, Terms
from vfl.configuration.federation import FederationConfig, TlsFiles
from vfl.coordinator.coordinator import Coordinator, job_name
from vfl.coordinator.observer import Callback
from vfl.errors import CheckpointError, JobAborted, MismatchError, VflError
from vfl.job.config import JobConfig, differing_tables, job_digest
from vfl.pki.credentials import Credentials, load_credentials, watched
from vfl.run_records.journal import RunJournal
from vfl.run_records.result import RunResult
from vfl.run_records.store import RunsConfig, RunStore
from vfl.transport.client import ControlClient
from vfl.transport.relay.tunnel import dialled_endpoint

_log = structlog.get_logger("vfl.coordinator")


async def run_job(
    job: JobConfig,
    federation: FederationConfig,
    tls: TlsFiles | None,
    observer: Callback,
    run_id: str | None = None,
    audit: AuditConfig | None = None,
    runs: RunsConfig | None = None,
    job_file: Path = Path("job.toml"),
    *,
    resume: bool = False,
    count_only: bool = False,
) -> RunResult:
    """Run one job over all parties of its federation.

    Args:
        tls: the coordinator's certificate files.
        run_id: makes the job's name unique; random where left out.
        audit: where the coordinator's audit log goes; None keeps none.
        runs: where it is kept how far runs are; None forgets it with this process.
        job_file: where the job was read, for whoever looks at the runs.
        resume: go on with the latest run of the job that has not finished; begin one where there is none.
        count_only: only count the ids that the parties have in common.

    Raises:
        MismatchError: the run to go on with was begun with other files.
        VflError: what stopped the job. ``JobAborted`` when the operator did (SIGINT, SIGTERM); it says where.
    """
    credentials = load_credentials(tls, federation, federation.coordinator, file="coordinator.toml")
    with _store(runs) as store:
        run = _latest(store, job, federation) if resume else None
        if run is None:
            run = job_name(job, run_id or secrets.token_hex(4))
            store.begin(run, job.name, federation.name, job_digest(job, federation), str(job_file))
        ledger = RunJournal(store, run)
        with _ended(ledger), _audited(job, federation, ledger.outcome.run, audit) as trail:
            return await _run(job, federation, credentials, ledger, observer, trail, count_only=count_only)


@contextlib.contextmanager
def _store(runs: RunsConfig | None) -> Iterator[RunStore]:
    with contextlib.ExitStack() as stack:
        path = runs.database if runs else Path(stack.enter_context(tempfile.TemporaryDirectory())) / "runs.sqlite"
        yield stack.enter_context(RunStore(path))


def _latest(store: RunStore, job: JobConfig, federation: FederationConfig) -> str | None:
    record = store.latest_unfinished(job.name)
    if record is None:
        _log.info("there is no unfinished run of this job: a new one begins", job=job.name)
        return None
    if tables := differing_tables(job_digest(job, federation), record.digest):
        raise MismatchError(
            f"{record.run} was begun with other files: they differ in {', '.join(tables)}",
            remedy="put job.toml and federation.toml back as they were, or start a new run without --resume",
        )
    _log.info("going on with a run", run=record.run, step=record.step, state=str(record.state))
    return record.run


@contextlib.contextmanager
def _ended(ledger: RunJournal) -> Iterator[None]:
    """What ends the run is kept with it."""
    try:
        yield
    except VflError as error:
        try:
            ledger.stop(None if isinstance(error, JobAborted) else error)
        except CheckpointError as unwritable:  # must not hide why the run ended
            _log.error("the end of the run is not in the record of runs", reason=str(unwritable))
        raise


async def _run(
    job: JobConfig,
    federation: FederationConfig,
    credentials: Credentials | None,
    ledger: RunJournal,
    observer: Callback,
    trail: AuditTrail | None,
    *,
    count_only: bool,
) -> RunResult:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(watched(credentials))
        clients = {}
        for name in federation.names:
            endpoint = await dialled_endpoint(stack, federation, federation.coordinator, name, credentials)
            client = ControlClient(endpoint, name, credentials, trail)
            clients[name] = await stack.enter_async_context(client)
        coordinator = Coordinator(job, federation, clients, ledger, observer)
        task = asyncio.create_task(coordinator.count_common_ids() if count_only else coordinator.run())
        with _cancelled_by_signals(task):
            try:
                return await task
            except asyncio.CancelledError:
                where = coordinator.where
                raise JobAborted(f"stopped by the operator during {where}; the parties were told") from None


@contextlib.contextmanager
def _audited(
    job: JobConfig, federation: FederationConfig, run: str, audit: AuditConfig | None
) -> Iterator[AuditTrail | None]:
    """The coordinator's audit log, closed with what ended the job."""
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


@contextlib.contextmanager
def _cancelled_by_signals(task: asyncio.Task[RunResult]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
