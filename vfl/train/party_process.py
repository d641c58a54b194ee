"""A party's process: open the port, serve one job, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import torch

from vfl.errors import JobAborted, VflError
from vfl.he.compute import use_device, use_threads
from vfl.train.audit import AuditTrail, Terms
from vfl.train.job import job_digest
from vfl.train.party_config import PartySetup, check_acceptable, party_credentials
from vfl.train.party_doctor import PartyDoctor
from vfl.train.probe import Standpoint
from vfl.train.service import PartyService
from vfl.transport.client import PeerClient
from vfl.transport.credentials import Credentials, watched
from vfl.transport.inbox import Inbox
from vfl.transport.server import PartyServer
from vfl.transport.traffic import TrafficMeter
from vfl.transport.tunnel import dialled_endpoint, reachable_through_relay

_log = structlog.get_logger("vfl.party")

LAST_WORDS_SECONDS = 3.0
"""How long to wait for calls that tell the coordinator why this party stops, and for those in progress to end."""


async def serve_party(setup: PartySetup, *, keep_serving: bool = False) -> VflError | None:
    """Serve jobs until one has ended (or, with ``keep_serving``, until a signal comes).

    Returns:
        What ended the job; None when it finished.

    Raises:
        ConfigError: certificates are missing or wrong.
        ListenError: the port is in use.
    """
    torch.set_num_threads(setup.config.model_threads)
    use_threads(setup.config.threads or os.cpu_count() or 1)
    _use_device(setup.config.device)
    _warn_of_refusal(setup)
    credentials = party_credentials(setup)
    async with watched(credentials):
        return await _serve(setup, credentials, keep_serving=keep_serving)


async def _serve(setup: PartySetup, credentials: Credentials | None, *, keep_serving: bool) -> VflError | None:
    with _signals() as stopping:
        while True:
            async with _serving(setup, credentials, keep_serving=keep_serving) as service:
                error = await _outcome(service, stopping)
            if not keep_serving or stopping.is_set():
                return error


def _use_device(name: str) -> None:
    try:
        use_device(name)
    except (RuntimeError, AssertionError, TypeError) as error:
        # A device that is not there at all is refused when the job is prepared, so that all hear of it.
        _log.info("ciphertext kernels stay on the CPU", device=name, reason=str(error))


def _warn_of_refusal(setup: PartySetup) -> None:
    """The coordinator hears of it when it prepares the job; the operator here need not wait for that."""
    try:
        check_acceptable(setup)
    except VflError as error:
        _log.warning("this party will refuse the job", reason=str(error))


async def _outcome(service: PartyService, stopping: asyncio.Event) -> VflError | None:
    async def stop() -> None:
        await stopping.wait()
        service.stop("stopped by its operator")

    helpers = [asyncio.create_task(service.watch()), asyncio.create_task(stop())]
    error = await service.outcome
    for helper in helpers:
        helper.cancel()
    await asyncio.gather(*helpers, return_exceptions=True)
    if error is not None:
        await service.last_words(LAST_WORDS_SECONDS)
    return error


@asynccontextmanager
async def _serving(
    setup: PartySetup, credentials: Credentials | None, *, keep_serving: bool
) -> AsyncIterator[PartyService]:
    inbox, traffic = Inbox(), TrafficMeter()
    policy = setup.config.policy.model_dump(mode="json")
    trail = AuditTrail(setup.config.audit.directory, Terms(setup.name, setup.job, setup.federation, policy))
    async with AsyncExitStack() as stack:
        clients = {}
        for peer in setup.peers:
            endpoint = await dialled_endpoint(stack, setup.federation, setup.name, peer, credentials)
            client = PeerClient(endpoint, peer, credentials, traffic=traffic, recorder=trail)
            clients[peer] = await stack.enter_async_context(client)
        service = PartyService(setup, clients, inbox, traffic, trail, credentials, keep_serving=keep_serving)
        # Last of all: until the server has stopped, answers may still leave.
        stack.callback(_close, trail, service)
        stack.callback(service.close)
        own = Standpoint(setup.name, setup.federation, job_digest(setup.job, setup.federation), credentials)
        doctor = PartyDoctor(own, lambda: service.activity)
        stack.push_async_callback(doctor.close)
        server = PartyServer(
            setup.name,
            setup.entry.listen_endpoint,
            service,
            inbox,
            credentials,
            setup.federation,
            traffic,
            trail,
            doctor,
        )
        await server.start()
        relay = reachable_through_relay(setup.federation, setup.name, server.port, credentials)
        await stack.enter_async_context(relay)
        stack.push_async_callback(server.stop, LAST_WORDS_SECONDS)
        _log.info("waiting for the coordinator", role=str(setup.entry.role), job=setup.job.name)
        yield service


def _close(trail: AuditTrail, service: PartyService) -> None:
    ended = service.outcome.done() and not service.outcome.cancelled()
    trail.close(service.outcome.result() if ended else JobAborted("the process was stopped"))


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """An event that SIGINT and SIGTERM set."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
