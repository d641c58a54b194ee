"""Connects the members of a federation over gRPC: servers, channels and relays, as defined in ``federation.toml``."""

from __future__ import annotations

from contextlib import AsyncExitStack

from vfl.configuration.federation import FederationConfig
from vfl.pki.credentials import Credentials
from vfl.transport.channels import PartyEnd
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.relay.tunnel import dialed, listening_endpoint, reachable_through_relay
from vfl.transport.server import PartyServer
from vfl.transport.wire.recorder import Recorder
from vfl.transport.wire.traffic import TrafficMeter

LAST_WORDS_SECONDS = 3.0
"""How long to wait for calls that report to the coordinator why this party stops, and for calls in progress."""


class GrpcNetwork:
    """Implements ``vfl.transport.channels.Network`` for one member.

    Args:
        credentials: this process's certificate and trust; None only with ``insecure-loopback``.
    """

    def __init__(self, federation: FederationConfig, credentials: Credentials | None) -> None:
        self._federation = federation
        self.credentials = credentials

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> PeerClient:
        """See ``Network``."""
        endpoint, relay = await dialed(stack, self._federation, caller, peer, self.credentials)
        client = PeerClient(endpoint, peer, self.credentials, traffic=traffic, recorder=recorder, relay=relay)
        return await stack.enter_async_context(client)

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> ControlClient:
        """See ``Network``."""
        coordinator = self._federation.coordinator
        endpoint, relay = await dialed(stack, self._federation, coordinator, party, self.credentials)
        return await stack.enter_async_context(ControlClient(endpoint, party, self.credentials, recorder, relay))

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        """See ``Network``."""
        listen = listening_endpoint(stack, self._federation, end.name, self.credentials)
        server = PartyServer(
            end.name,
            listen,
            end.handler,
            end.inbox,
            self.credentials,
            self._federation,
            end.traffic,
            end.recorder,
            end.doctor,
        )
        await server.start()
        relay = reachable_through_relay(self._federation, end.name, listen, self.credentials)
        await stack.enter_async_context(relay)
        stack.push_async_callback(server.stop, LAST_WORDS_SECONDS)
