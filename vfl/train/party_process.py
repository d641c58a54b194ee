"""A party's process: open the port, serve one job, stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import torch

from vfl.errors import ConfigError, VflError
from vfl.train.party_config import PartySetup
from vfl.train.service import PartyService
from vfl.transport.client import PeerClient
from vfl.transport.config import TlsFiles
from vfl.transport.credentials import client_credentials, server_credentials
from vfl.transport.inbox import Inbox
from vfl.transport.server import PartyServer
from vfl.transport.traffic import TrafficMeter

_log = structlog.get_logger("vfl.party")

LAST_WORDS_SECONDS = 3.0
"""How long calls in progress may take to tell the coordinator why this party stops."""


async def serve_party(setup: PartySetup, *, keep_serving: bool = False) -> VflError | None:
    """Serve jobs until one has ended (or, with ``keep_serving``, until a signal comes).

    Returns:
        What ended the job; None when it finished.

    Raises:
        ConfigError: certificates are missing or wrong.
        ListenError: the port is in use.
    """
    if setup.config.threads:
        torch.set_num_threads(setup.config.threads)
    while True:
        async with _serving(setup) as service:
            stopping = _stop_on_signals(service)
            watcher = asyncio.create_task(service.watch(wait_forever_for_a_job=keep_serving))
            error = await service.outcome
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
        if not keep_serving or stopping.is_set():
            return error


@asynccontextmanager
async def _serving(setup: PartySetup) -> AsyncIterator[PartyService]:
    files = required_tls(setup)
    identity = setup.federation.identity(setup.name)
    inbox, traffic = Inbox(), TrafficMeter()
    async with AsyncExitStack() as stack:
        credentials = client_credentials(files, identity) if files else None
        clients = {
            peer: await stack.enter_async_context(
                PeerClient(setup.federation.party(peer).endpoint, peer, credentials, traffic=traffic)
            )
            for peer in setup.peers
        }
        service = PartyService(setup, clients, inbox, traffic)
        server = PartyServer(
            setup.name,
            setup.entry.listen_endpoint,
            service,
            inbox,
            server_credentials(files, identity) if files else None,
            setup.federation,
            traffic,
        )
        await server.start()
        stack.push_async_callback(server.stop, LAST_WORDS_SECONDS)
        _log.info("listening", endpoint=setup.entry.listen_endpoint, role=setup.entry.role, job=setup.job.name)
        yield service


def required_tls(setup: PartySetup) -> TlsFiles | None:
    """The party's certificate files, which it must have unless the federation is insecure by name.

    Raises:
        ConfigError: they are missing.
    """
    return tls_files(setup.config.tls, mutual=setup.federation.is_mutual_tls, file="party.toml")


def tls_files(files: TlsFiles | None, *, mutual: bool, file: str) -> TlsFiles | None:
    """Check that certificate files are given exactly when the federation needs them.

    Raises:
        ConfigError: they are missing.
    """
    if mutual and files is None:
        raise ConfigError(
            "the federation uses mutual TLS but no certificate files are configured",
            detail=f"{file}: [tls]",
            remedy=f"set tls.ca, tls.certificate and tls.key in {file}",
        )
    return files if mutual else None


def _stop_on_signals(service: PartyService) -> asyncio.Event:
    stopping = asyncio.Event()

    def stop(name: str) -> None:
        stopping.set()
        service.stop(f"stopped by its operator ({name})")

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number.name)
    return stopping
