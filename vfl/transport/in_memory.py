"""All members of a federation in one process, without ports: simulations, notebooks, and tests of protocol and faults.

Only the bytes are left out. Addresses and headers are made and checked as on the wire, routes are refused by role, both
ends keep their records, an error crosses as its safe part, and nobody gets hold of another's arrays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Protocol, TypeVar

import numpy as np

from vfl import messages as m
from vfl.configuration.federation import FederationConfig
from vfl.errors import AuditError, DeadlineExceeded, PeerUnreachable, RemoteError
from vfl.ids import Address
from vfl.messages import Message
from vfl.transport.access import Access
from vfl.transport.channels import ControlHandler, PartyEnd
from vfl.transport.wire.data_codec import decode_address, encode_header
from vfl.transport.wire.failures import as_failure
from vfl.transport.wire.limits import Limits
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    call_key,
    control_record,
    data_record,
    fresh_salt,
    message_sha256,
)
from vfl.transport.wire.traffic import TrafficMeter

Reply = TypeVar("Reply")


class Disturbance(Protocol):
    """Stands in the way of calls and deliveries; tests make faults with it."""

    async def before(self, caller: str, receiver: str, what: str) -> None:
        """Wait, or raise PeerUnreachable, before ``what`` (a call or a kind of message) reaches the receiver."""

    async def after(self, caller: str, receiver: str, what: str) -> None:
        """The same once the receiver has done it, before the caller knows."""


class InMemoryNetwork:
    """Implements ``vfl.transport.channels.Network`` for every member at once. Of one event loop.

    Args:
        federation: who takes part.
        disturbance: stands in the way; None where nothing does.
    """

    def __init__(self, federation: FederationConfig, disturbance: Disturbance | None = None) -> None:
        self.federation = federation
        self.credentials = None
        self.disturbance = disturbance
        self._access = Access(federation, None)
        self._ends: dict[str, PartyEnd] = {}
        self._calls: dict[str, set[asyncio.Task[Any]]] = {}
        self._changed = asyncio.Condition()

    async def peer(
        self, stack: AsyncExitStack, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> _InMemoryPeer:
        """See ``Network``."""
        return _InMemoryPeer(self, caller, peer, traffic, recorder)

    async def control(self, stack: AsyncExitStack, party: str, recorder: Recorder | None) -> _InMemoryControl:
        """See ``Network``."""
        return _InMemoryControl(self, self.federation.coordinator, party, recorder)

    async def serve(self, stack: AsyncExitStack, end: PartyEnd) -> None:
        """See ``Network``."""
        async with self._changed:
            self._ends[end.name] = end
            self._changed.notify_all()
        stack.callback(self._leave, end)

    def _leave(self, end: PartyEnd) -> None:
        """From now on nobody answers for this party; calls that it is working on break, as with a lost connection."""
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
        """What answers for a party.

        Raises:
            PeerUnreachable: nothing does.
        """
        if name not in self._ends:
            raise PeerUnreachable(f"{name} went away or does not answer", remedy=f"start {name} in this process")
        return self._ends[name]

    async def call(
        self, caller: str, receiver: str, what: str, work: Callable[[PartyEnd], Coroutine[Any, Any, Reply]]
    ) -> Reply:
        """Have ``work`` done at the receiver's end; it breaks when the receiver goes away.

        Raises:
            RemoteError: the safe part of what the work raised.
            PeerUnreachable: the receiver is not there, or went away.
        """
        end = self.end_of(receiver)
        task = asyncio.ensure_future(self._at(end, caller, what, work))
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
            raise RemoteError(failure.party, failure.code, failure.summary, remedy=failure.remedy) from None
        if self.disturbance is not None:
            await self.disturbance.after(caller, end.name, what)
        return reply

    def check_address(self, header: Any, sender: str, receiver: str) -> Address:
        """As a server does: the address that a header states.

        Raises:
            ProtocolError, AccessDenied: it is malformed, of another sender, or takes a way that it never takes.
        """
        self._access.require_member(sender)
        address = decode_address(header, receiver=receiver)
        self._access.require_route(address, receiver)
        return address


class _InMemoryPeer:
    def __init__(
        self, network: InMemoryNetwork, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> None:
        self._network = network
        self._caller = caller
        self._peer = peer
        self._traffic = traffic
        self._recorder = recorder

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        await self._network.wait_ready(self._peer, timeout)

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        header = encode_header(address, message, receiver=self._peer, max_message_bytes=Limits().max_message_bytes)
        salt = fresh_salt()
        content = b""
        if self._recorder is not None or self._network.end_of(self._peer).recorder is not None:
            content = await asyncio.to_thread(message_sha256, message)
        _record(self._recorder, lambda: data_record(Direction.SENT, self._peer, address, message, salt, content))

        async def store(end: PartyEnd) -> None:
            stated = self._network.check_address(header, self._caller, self._peer)
            # What is delivered is the receiver's own: neither may see what the other does with its arrays afterward.
            copied = type(message)(**{name: np.array(array) for name, array in message.tensors().items()})
            with end.inbox.reserve(self._caller, header.total_bytes):
                _record(
                    end.recorder, lambda: data_record(Direction.RECEIVED, self._caller, stated, copied, salt, content)
                )
            end.inbox.put(stated, copied)
            end.traffic.count_received(address.key.run, self._caller, header.total_bytes)

        async with _within(timeout, self._peer, f"deliver {address.kind}"):
            await self._network.call(self._caller, self._peer, address.kind, store)
        self._traffic.count_sent(address.key.run, self._peer, header.total_bytes)


class _InMemoryControl:
    """Implements ``ControlChannel``."""

    def __init__(self, network: InMemoryNetwork, coordinator: str, party: str, recorder: Recorder | None) -> None:
        self._network = network
        self._coordinator = coordinator
        self._party = party
        self._recorder = recorder

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        await self._network.wait_ready(self._party, timeout)

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        return await self._call(call, lambda handler: handler.prepare(call))

    async def restore(self, call: m.Restore) -> m.Restored:
        return await self._call(call, lambda handler: handler.restore(call))

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        return await self._call(call, lambda handler: handler.align(call), timeout)

    async def begin(self, call: m.Begin) -> m.Begun:
        return await self._call(call, lambda handler: handler.begin(call))

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        return await self._call(call, lambda handler: handler.run_phase(call), what=call.phase.value)

    async def score(self, call: m.Score) -> m.Scored:
        return await self._call(call, lambda handler: handler.score(call))

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        return await self._call(call, lambda handler: handler.checkpoint(call))

    async def commit(self, call: m.Commit) -> m.Committed:
        return await self._call(call, lambda handler: handler.commit(call))

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        async with _within(timeout, self._party, call.kind):
            return await self._network.call(
                self._coordinator, self._party, call.kind, lambda end: _coroutine(end.handler.heartbeat(call))
            )

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        with contextlib.suppress(AuditError):  # said even where it cannot be recorded
            await self._call(call, lambda handler: handler.abort(call), timeout)

    async def finish(self, call: m.Finish) -> m.Finished:
        return await self._call(call, lambda handler: handler.finish(call))

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        return await self._call(call, lambda handler: handler.release(call), timeout)

    async def _call(
        self,
        call: m.ControlMessage,
        ask: Callable[[ControlHandler], Awaitable[Reply]],
        timeout: float | None = None,  # noqa: ASYNC109
        what: str = "",
    ) -> Reply:
        key, salt = call_key(call), fresh_salt()
        _record(self._recorder, lambda: control_record(Direction.SENT, self._party, key, call, salt))

        async def answer(end: PartyEnd) -> Reply:
            _record(end.recorder, lambda: control_record(Direction.RECEIVED, self._coordinator, key, call, salt))
            try:
                reply = await ask(end.handler)
            except Exception as error:
                failure = as_failure(error, self._party)
                _record(end.recorder, lambda: control_record(Direction.SENT, self._coordinator, key, failure, salt))
                raise
            if isinstance(reply, m.ControlMessage):
                said = reply
                _record(end.recorder, lambda: control_record(Direction.SENT, self._coordinator, key, said, salt))
            return reply

        try:
            async with _within(timeout, self._party, what or call.kind):
                reply = await self._network.call(self._coordinator, self._party, what or call.kind, answer)
        except RemoteError as error:
            failure = m.Failure(error.party, error.remote_code, error.remote_summary, error.remedy)
            _record(self._recorder, lambda: control_record(Direction.RECEIVED, self._party, key, failure, salt))
            raise
        if isinstance(reply, m.ControlMessage):
            said = reply
            _record(self._recorder, lambda: control_record(Direction.RECEIVED, self._party, key, said, salt))
        return reply


def _record(recorder: Recorder | None, make: Callable[[], Any]) -> None:
    if recorder is not None:
        recorder.record(make())


async def _coroutine(waiting: Awaitable[Reply]) -> Reply:
    return await waiting


@contextlib.asynccontextmanager
async def _within(seconds: float | None, party: str, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise DeadlineExceeded(
            f"{party} did not complete '{what}' within {seconds:g} s", remedy="allow more time"
        ) from None
