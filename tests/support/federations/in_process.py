"""A whole federation in one event loop, over real connections, so that a test sees every message that crosses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.federations.federation import COORDINATOR, Federation
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.coordinator.process import RunOptions, coordinator_network, run_job
from vfl.errors import VflError
from vfl.ids import Address
from vfl.job.digests import job_id
from vfl.job.setup import load_job_setup
from vfl.messages import Message
from vfl.party.config import load_party, party_credentials
from vfl.party.process import serve_party
from vfl.pki.credentials import Credentials
from vfl.run_records.result import RunResult
from vfl.transport.channels import ControlChannel, Network, PartyEnd, PeerChannel
from vfl.transport.client import ControlClient
from vfl.transport.grpc_network import GrpcNetwork
from vfl.transport.in_memory import InMemoryNetwork
from vfl.transport.relay.tunnel import dialed
from vfl.transport.wire.recorder import Recorder
from vfl.transport.wire.traffic import TrafficMeter


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
    sent: list[tuple[Address, str, Message]] = field(default_factory=list, repr=False)

    def kinds(self, sender: str, receiver: str) -> set[str]:
        """Kinds of messages that went this way."""
        return {address.kind for address, to, _ in self.sent if (address.sender, to) == (sender, receiver)}


Deliver = Callable[[PeerChannel, str, Address, Message, float], Awaitable[None]]
"""Delivers ``message`` to a receiver, by name, over the channel to it; tests put something else in its place."""


async def _honestly(channel: PeerChannel, receiver: str, address: Address, message: Message, seconds: float) -> None:
    await channel.deliver(address, message, seconds)


class InterceptedNetwork:
    """A network on which every message passes a test: it sees them all, and may change, delay or repeat them.

    Attributes:
        sent: address, receiver and message of all that was handed to it.
    """

    def __init__(self, network: Network, deliver: Deliver = _honestly) -> None:
        self._network = network
        self.credentials = network.credentials
        self._deliver = deliver
        self.sent: list[tuple[Address, str, Message]] = []

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> PeerChannel:
        channel = await self._network.peer(stack, caller, peer, traffic, recorder)
        return _InterceptedPeer(channel, peer, self._deliver, self.sent)

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> ControlChannel:
        return await self._network.control(stack, party, recorder)

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        await self._network.serve(stack, end)


@dataclass
class _InterceptedPeer:
    channel: PeerChannel
    receiver: str
    act: Deliver
    sent: list[tuple[Address, str, Message]]

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        await self.channel.wait_ready(timeout)

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        self.sent.append((address, self.receiver, message))
        await self.act(self.channel, self.receiver, address, message, timeout)


async def run_federation(
    federation: Federation, *, count_only: bool = False, deliver: Deliver = _honestly, over_grpc: bool = False
) -> Run:
    """Run one job of a written federation with all parties in this event loop, or only count the common ids.

    Args:
        deliver: stands in the way of every message.
        over_grpc: with real connections and certificates in place of memory.
    """
    run = Run()
    setups = {name: load_party(federation.path(name)) for name in federation.names}
    job, settings, _ = load_job_setup(federation.path(COORDINATOR, "job.toml"))
    own = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig)
    memory = InMemoryNetwork(settings)
    run.errors[COORDINATOR] = None
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(coordinator_network(settings, own.tls)) if over_grpc else memory
        networks = {
            name: InterceptedNetwork(GrpcNetwork(settings, party_credentials(setup)) if over_grpc else memory, deliver)
            for name, setup in setups.items()
        }
        parties = {
            name: asyncio.create_task(serve_party(setup, network=networks[name])) for name, setup in setups.items()
        }
        try:
            options = RunOptions(audit=own.audit, count_only=count_only)
            run.outcome = await run_job(job, settings, network, options)
        except VflError as error:
            run.errors[COORDINATOR] = error
        run.errors |= {name: await party for name, party in parties.items()}
    run.sent = [sent for intercepted in networks.values() for sent in intercepted.sent]
    return run


@asynccontextmanager
async def parties_in_process(
    federation: Federation,
    *,
    keep_serving: bool = False,
    sent: list[tuple[Address, str, Message]] | None = None,
    over_grpc: bool = True,
) -> AsyncIterator[tuple[dict[str, asyncio.Task[VflError | None]], dict[str, Any]]]:
    """The parties of a written federation, each answering, and a coordinator's connection to each.

    Args:
        over_grpc: with real connections and certificates, not in memory.
        sent: gets address, receiver and message of all that the parties send each other.
    """
    setups = {name: load_party(federation.path(name)) for name in federation.names}
    tls = load_toml(federation.path(COORDINATOR, "coordinator.toml"), CoordinatorConfig).tls
    assert tls is not None
    async with AsyncExitStack() as stack:
        settings = next(iter(setups.values())).federation
        credentials, memory = Credentials(tls, settings, COORDINATOR), InMemoryNetwork(settings)
        networks = {
            name: InterceptedNetwork(GrpcNetwork(settings, party_credentials(setup)) if over_grpc else memory)
            for name, setup in setups.items()
        }
        for network in networks.values():
            network.sent = network.sent if sent is None else sent
        parties = {
            name: asyncio.create_task(serve_party(setup, keep_serving=keep_serving, network=networks[name]))
            for name, setup in setups.items()
        }
        clients: dict[str, Any] = {}
        for name in setups:
            if not over_grpc:
                clients[name] = await memory.control(stack, name, None)
                continue
            endpoint = (await dialed(stack, settings, COORDINATOR, name, credentials)).endpoint
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
