"""The coordinator's process: connect to the parties, run one job."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack

from vfl.errors import JobAborted
from vfl.train.coordinator import Coordinator, Outcome
from vfl.train.job import JobConfig
from vfl.train.observer import Observer
from vfl.train.party_config import tls_files
from vfl.transport.client import ControlClient
from vfl.transport.config import FederationConfig, TlsFiles
from vfl.transport.credentials import client_credentials


async def run_job(
    job: JobConfig,
    federation: FederationConfig,
    tls: TlsFiles | None,
    observer: Observer,
    run_id: str | None = None,
    *,
    count_only: bool = False,
) -> Outcome:
    """Run one job over all parties of its federation.

    Args:
        tls: the coordinator's certificate files.
        run_id: makes the job's name unique; random where left out.
        count_only: only count the ids that the parties have in common.

    Raises:
        VflError: what stopped the job. ``JobAborted`` when the operator did (SIGINT, SIGTERM); it says where.
    """
    files = tls_files(tls, mutual=federation.is_mutual_tls, file="coordinator.toml")
    identity = federation.identity(federation.coordinator)
    credentials = client_credentials(files, identity) if files else None
    async with AsyncExitStack() as stack:
        clients = {
            party.name: await stack.enter_async_context(ControlClient(party.endpoint, party.name, credentials))
            for party in federation.parties
        }
        coordinator = Coordinator(job, federation, clients, run_id or secrets.token_hex(4), observer)
        task = asyncio.create_task(coordinator.count_common_ids() if count_only else coordinator.run())
        with _cancelled_by_signals(task):
            try:
                return await task
            except asyncio.CancelledError:
                raise JobAborted(f"stopped by the operator during {coordinator.where}; the parties were told") from None


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
