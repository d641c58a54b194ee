"""All members of a federation in one process, without ports: for simulations, notebooks, and protocol and fault tests.

Only serialization is left out. Addresses and headers are created and checked as on the wire, routes are refused by
role, both ends keep their records, only the safe part of an error crosses, and members never share arrays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

from vfl.configuration.federation import FederationConfig
from vfl.errors import PeerUnreachable, RemoteError
from vfl.ids import Address
from vfl.runtime.background import start_awaited
from vfl.transport.access import Access
from vfl.transport.channels import PartyEnd
from vfl.transport.in_memory.channels import InMemoryControl, InMemoryPeer
from vfl.transport.wire.data_codec import decode_address
from vfl.transport.wire.failures import as_failure
from vfl.transport.wire.recorder import Recorder
from vfl.transport.wire.traffic import TrafficMeter

Reply = TypeVar("Reply")


class Disturbance(Protocol):
    """Intercepts calls and deliveries, with which tests inject faults."""

    async def before(self, caller: str, receiver: str, what: str) -> None:
        """Wait, or raise PeerUnreachable, before ``what`` (a call or a kind of message) reaches the receiver."""

    async def after(self, caller: str, receiver: str, what: str) -> None:
        """The same, once the receiver has done it and before the caller knows."""


class InMemoryNetwork:
    """Implements ``vfl.transport.channels.Network`` for all members at once. Belongs to one event loop.

    Args:
        federation: the members.
        disturbance: intercepts calls and deliveries; None for no faults.
    """

    def __init__(self, federation: FederationConfig, disturbance: Disturbance | None = None) -> None:
        self.federation = federation
        self.credentials = None
        self.disturbance = disturbance
        self._access = Access(federation, None)
        self._ends: dict[str, PartyEnd] = {}
        self._calls: dict[str, set[asyncio.Future[Any]]] = {}
        self._changed = asyncio.Condition()

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> InMemoryPeer:
        """See ``Network``."""
        return InMemoryPeer(self, caller, peer, traffic, recorder)

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> InMemoryControl:
        """See ``Network``."""
        return InMemoryControl(self, self.federation.coordinator, party, recorder)

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        """See ``Network``."""
        async with self._changed:
            self._ends[end.name] = end
            self._changed.notify_all()
        stack.callback(self._leave, end)

    def _leave(self, end: PartyEnd) -> None:
        """Stop answering for this party; calls that it is working on break off, as with a lost connection."""
        if self._ends.get(end.name) is end:
            del self._ends[end.name]
            for call in self._calls.pop(end.name, set()):
                call.cancel("the party went away")

    async def wait_ready(self, name: str, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait until a party answers."""
        try:
            async with asyncio.timeout(timeout), self._changed:
                await self._changed.wait_for(lambda: name in self._ends)
        except TimeoutError:
            raise PeerUnreachable(
                f"{name} did not answer within {timeout:g} s", remedy=f"start {name} in this process"
            ) from None

    def end_of(self, name: str) -> PartyEnd:
        """The end that answers for a party.

        Raises:
            PeerUnreachable: there is none.
        """
        if name not in self._ends:
            raise PeerUnreachable(f"{name} went away or does not answer", remedy=f"start {name} in this process")
        return self._ends[name]

    async def call(
        self, caller: str, receiver: str, what: str, work: Callable[[PartyEnd], Coroutine[Any, Any, Reply]]
    ) -> Reply:
        """Do ``work`` at the receiver's end; it breaks off when the receiver goes away.

        Raises:
            RemoteError: the safe part of the error that the work raised.
            PeerUnreachable: the receiver is absent, or went away.
        """
        end = self.end_of(receiver)
        task = start_awaited(self._at(end, caller, what, work))
        calls = self._calls.setdefault(receiver, set())
        calls.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if not task.cancelled() or (current := asyncio.current_task()) is None or current.cancelling():
                raise
            raise PeerUnreachable(f"{receiver} went away", remedy=f"start {receiver} in this process") from None
        finally:
            calls.discard(task)
            task.cancel()

    async def _at(
        self, end: PartyEnd, caller: str, what: str, work: Callable[[PartyEnd], Coroutine[Any, Any, Reply]]
    ) -> Reply:
        if self.disturbance is not None:
            await self.disturbance.before(caller, end.name, what)
        try:
            reply = await work(end)
        except Exception as error:  # noqa: BLE001  # the boundary: whatever happened, the caller gets the safe part only
            failure = as_failure(error, end.name)
            told = failure.party, failure.code, failure.summary, failure.remedy
            raise RemoteError(*told, reporter=end.name) from None
        if self.disturbance is not None:
            await self.disturbance.after(caller, end.name, what)
        return reply

    def check_address(self, header: Any, sender: str, receiver: str) -> Address:
        """The address stated by a header, checked as a server does.

        Raises:
            ProtocolError, AccessDenied: the header is malformed, the sender is no party of the federation, or its role
                never sends this kind of message to the receiver's role.
        """
        self._access.require_member(sender)
        address = decode_address(header, receiver=receiver)
        self._access.require_route(address, receiver)
        return address
