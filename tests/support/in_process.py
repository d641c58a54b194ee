"""A whole federation in one event loop, over real connections, so that a test sees every message that crosses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
from vfl.coordinator.observer import SilentCallback

from support.federation import COORDINATOR, Federation
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.coordinator import RunResult
from vfl.coordinator.process import run_job
from vfl.errors import VflError
from vfl.ids import Address
from vfl.job.config import job_id, load_job_setup
from vfl.messages import Message
from vfl.party.config import load_party
from vfl.party.process import serve_party
from vfl.pki.credentials import Credentials
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.relay.tunnel import dialled_endpoint


@dataclass
class Run:
    """What happened.

    Attributes:
        outcome: of the coordinator; None when the job was stopped.
        errors: what each process ended with; None for those that finished.
        sent: every data message: address, receiver, message.
    """

    outcome: RunResult | None = None
    errors: dict[str, VflError | None] = field(default_factory=dict)
    sent: list[tuple[Address, str, Message]] = field(default_factory=list)

    def kinds(self, sender: str, receiver: str) -> set[str]:
        """Kinds of messages that went this way."""
        return {address.kind for address, to, _ in self.sent if (address.sender, to) == (sender, receiver)}


async def run_federation(federation: Federation, monkeypatch: pytest.MonkeyPatch, *, count_only: bool = False) -> Run:
    """Run one job, or only count the common ids.

    Not reproducible: parties that share a process share torch's generator.
    """
    run = Run()
    record_messages(run, monkeypatch)
    setups = {name: load_party(federation.path(name)) for name in federation.names}
    parties = {name: asyncio.create_task(serve_party(setup)) for name, setup in setups.items()}
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    own = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig)
    run.errors[COORDINATOR] = None
    try:
        run.outcome = await run_job(job, settings, own.tls, SilentCallback(), audit=own.audit, count_only=count_only)
    except VflError as error:
        run.errors[COORDINATOR] = error
    run.errors |= {name: await party for name, party in parties.items()}
    return run


@asynccontextmanager
async def parties_in_process(
    federation: Federation, *, keep_serving: bool = False
) -> AsyncIterator[tuple[dict[str, asyncio.Task[VflError | None]], dict[str, ControlClient]]]:
    """The parties of a written federation, each answering, and a coordinator's connection to each."""
    setups = {name: load_party(federation.path(name)) for name in federation.names}
    tls = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig).tls
    assert tls is not None
    async with AsyncExitStack() as stack:
        settings = next(iter(setups.values())).federation
        credentials = Credentials(tls, settings, COORDINATOR)
        parties = {
            name: asyncio.create_task(serve_party(setup, keep_serving=keep_serving)) for name, setup in setups.items()
        }
        clients = {}
        for name in setups:
            endpoint = await dialled_endpoint(stack, settings, COORDINATOR, name, credentials)
            clients[name] = await stack.enter_async_context(ControlClient(endpoint, name, credentials))
        try:
            await asyncio.gather(*(client.wait_ready(30) for client in clients.values()))
            yield parties, clients
        finally:
            for party in parties.values():
                party.cancel()
            await asyncio.gather(*parties.values(), return_exceptions=True)


def job_of(federation: Federation) -> str:
    """What calls of a written federation's coordinator name the job by."""
    setup = load_party(federation.path(federation.names[0]))
    return job_id(setup.job, setup.federation)


def record_messages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    deliver = PeerClient.deliver

    async def recording(self: PeerClient, address: Address, message: Message, seconds: float) -> None:
        run.sent.append((address, self.peer_name, message))
        await deliver(self, address, message, seconds)

    monkeypatch.setattr(PeerClient, "deliver", recording)
