"""The coordinator's process: connect to the parties, run one job."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

from vfl.errors import JobAborted, VflError
from vfl.train.audit import AuditConfig, AuditTrail, Terms
from vfl.train.coordinator import FIRST_ATTEMPT, Coordinator, Outcome, job_name
from vfl.train.job import JobConfig
from vfl.train.observer import Observer
from vfl.train.party_config import load_credentials
from vfl.transport.client import ControlClient
from vfl.transport.config import FederationConfig, TlsFiles
from vfl.transport.credentials import watched
from vfl.transport.tunnel import dialled_endpoint


async def run_job(
    job: JobConfig,
    federation: FederationConfig,
    tls: TlsFiles | None,
    observer: Observer,
    run_id: str | None = None,
    audit: AuditConfig | None = None,
    *,
    count_only: bool = False,
) -> Outcome:
    """Run one job over all parties of its federation.

    Args:
        tls: the coordinator's certificate files.
        run_id: makes the job's name unique; random where left out.
        audit: where the coordinator's audit log goes; None keeps none.
        count_only: only count the ids that the parties have in common.

    Raises:
        VflError: what stopped the job. ``JobAborted`` when the operator did (SIGINT, SIGTERM); it says where.
    """
    credentials = load_credentials(tls, federation, federation.coordinator, file="coordinator.toml")
    run_id = run_id or secrets.token_hex(4)
    with _audited(job, federation, run_id, audit) as trail:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(watched(credentials))
            clients = {}
            for name in federation.names:
                endpoint = await dialled_endpoint(stack, federation, federation.coordinator, name, credentials)
                client = ControlClient(endpoint, name, credentials, trail)
                clients[name] = await stack.enter_async_context(client)
            coordinator = Coordinator(job, federation, clients, run_id, observer)
            task = asyncio.create_task(coordinator.count_common_ids() if count_only else coordinator.run())
            with _cancelled_by_signals(task):
                try:
                    return await task
                except asyncio.CancelledError:
                    where = coordinator.where
                    raise JobAborted(f"stopped by the operator during {where}; the parties were told") from None


@contextlib.contextmanager
def _audited(
    job: JobConfig, federation: FederationConfig, run_id: str, audit: AuditConfig | None
) -> Iterator[AuditTrail | None]:
    """The coordinator's audit log, closed with what ended the job."""
    if audit is None:
        yield None
        return
    trail = AuditTrail(audit.directory, Terms(federation.coordinator, job, federation))
    trail.open(job_name(job, run_id), FIRST_ATTEMPT)
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
def _cancelled_by_signals(task: asyncio.Task[Outcome]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
