"""A party's process: open the port, serve one run of each job, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import structlog
import torch

from vfl.audit.trail import AuditTrails
from vfl.doctor.answer import PartyDoctor
from vfl.doctor.probe import Prober
from vfl.errors import VflError
from vfl.he.arithmetic.compute import use_device, use_threads
from vfl.job.config import job_digest
from vfl.party.config import PartySetup, check_acceptable, check_together, party_credentials
from vfl.party.service.job_host import LAST_WORDS_SECONDS, JobHost, PartyResources
from vfl.party.service.router import JobRouter
from vfl.pki.credentials import Credentials, watched
from vfl.transport.client import PeerClient
from vfl.transport.inbox import Inbox
from vfl.transport.relay.tunnel import dialled_endpoint, reachable_through_relay
from vfl.transport.server import PartyServer
from vfl.transport.wire.traffic import TrafficMeter

_log = structlog.get_logger("vfl.party")


async def serve_party(*setups: PartySetup, keep_serving: bool = False) -> VflError | None:
    """Serve a job of each setup until all have ended (or, with ``keep_serving``, until a signal comes).

    Args:
        setups: at least one; several are of the same party and differ in their jobs.

    Returns:
        What ended a job; None when all finished.

    Raises:
        ConfigError: certificates are missing or wrong, or the setups are of different parties.
        ListenError: the port is in use.
    """
    check_together(setups)
    setup = setups[0]
    torch.set_num_threads(setup.config.model_threads)
    use_threads(setup.config.threads or os.cpu_count() or 1)
    _use_device(setup.config.device)
    for each in setups:
        _warn_of_refusal(each)
    credentials = party_credentials(setup)
    async with watched(credentials):
        return await _serve(setups, credentials, keep_serving=keep_serving)


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


async def _serve(
    setups: Sequence[PartySetup], credentials: Credentials | None, *, keep_serving: bool
) -> VflError | None:
    """One server and one connection to each peer for all jobs."""
    setup, federation = setups[0], setups[0].federation
    inbox, traffic, trails, router = Inbox(), TrafficMeter(), AuditTrails(), JobRouter()
    async with AsyncExitStack() as stack:
        stopping = stack.enter_context(_signals())
        clients = {}
        for peer in setup.peers:
            endpoint = await dialled_endpoint(stack, federation, setup.name, peer, credentials)
            client = PeerClient(endpoint, peer, credentials, traffic=traffic, recorder=trails)
            clients[peer] = await stack.enter_async_context(client)
        shared = PartyResources(clients, inbox, traffic, trails, credentials, router)
        desks = [JobHost(each, shared, stopping, keep_serving=keep_serving) for each in setups]
        for desk in desks:
            # Last of all: until the server has stopped, answers may still leave.
            stack.callback(desk.close)
        own = Prober(setup.name, federation, job_digest(setup.job, federation), credentials)
        doctor = PartyDoctor(own, lambda: {service.digest: service.activity for service in router})
        stack.push_async_callback(doctor.close)
        server = PartyServer(
            setup.name,
            setup.entry.listen_endpoint,
            router,
            inbox,
            credentials,
            federation,
            traffic,
            trails,
            doctor,
        )
        await server.start()
        relay = reachable_through_relay(federation, setup.name, server.port, credentials)
        await stack.enter_async_context(relay)
        stack.push_async_callback(server.stop, LAST_WORDS_SECONDS)
        _log.info("waiting for the coordinator", role=str(setup.entry.role), job=[s.job.name for s in setups])
        errors = await asyncio.gather(*(desk.serve() for desk in desks))
        return next((error for error in errors if error is not None), None)


@contextlib.contextmanager
def _signals() -> Iterator[asyncio.Future[int]]:
    """The first of SIGINT and SIGTERM to come."""
    loop = asyncio.get_running_loop()
    came: asyncio.Future[int] = loop.create_future()

    def note(number: int) -> None:
        if not came.done():
            came.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, note, number)
    try:
        yield came
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
