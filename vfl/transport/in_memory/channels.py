"""How one member calls another in the same process: deliveries to a peer, and the coordinator's calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vfl import messages as m
from vfl.errors import AuditError, DeadlineExceeded, RemoteError
from vfl.ids import Address
from vfl.messages import Message
from vfl.transport.channels import ControlHandler, PartyEnd
from vfl.transport.wire.data_codec import encode_header
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

if TYPE_CHECKING:
    from vfl.transport.in_memory.network import InMemoryNetwork

Reply = TypeVar("Reply")


class InMemoryPeer:
    """Implements ``PeerChannel``."""

    def __init__(
        self, network: InMemoryNetwork, caller: str, peer: str, traffic: TrafficMeter, recorder: Recorder | None
    ) -> None:
        self._network = network
        self._caller = caller
        self._peer = peer
        self._traffic = traffic
        self._recorder = recorder

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """See ``PeerChannel``."""
        await self._network.wait_ready(self._peer, timeout)

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        """See ``PeerChannel``."""
        header = encode_header(address, message, receiver=self._peer, max_message_bytes=Limits().max_message_bytes)
        salt = fresh_salt()
        content = b""
        if self._recorder is not None or self._network.end_of(self._peer).recorder is not None:
            content = await asyncio.to_thread(message_sha256, message)
        _record(self._recorder, lambda: data_record(Direction.SENT, self._peer, address, message, salt, content))

        async def store(end: PartyEnd) -> None:
            stated = self._network.check_address(header, self._caller, self._peer)
            # The receiver gets its own copy: neither side may see what the other does with its arrays afterward.
            copied = type(message)(**{name: np.array(array) for name, array in message.tensors().items()})
            with end.inbox.reserve(stated, header.total_bytes):
                _record(
                    end.recorder, lambda: data_record(Direction.RECEIVED, self._caller, stated, copied, salt, content)
                )
            end.inbox.put(stated, copied)
            end.traffic.count_received(address.key.run, self._caller, header.total_bytes)

        async with _within(timeout, self._peer, f"deliver {address.kind}"):
            await self._network.call(self._caller, self._peer, address.kind, store)
        self._traffic.count_sent(address.key.run, self._peer, header.total_bytes)


class InMemoryControl:
    """Implements ``ControlChannel``."""

    def __init__(self, network: InMemoryNetwork, coordinator: str, party: str, recorder: Recorder | None) -> None:
        self._network = network
        self._coordinator = coordinator
        self._party = party
        self._recorder = recorder

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """See ``ControlChannel``."""
        await self._network.wait_ready(self._party, timeout)

    async def offer(self, call: m.Offer) -> m.Offered:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.offer(call))

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.prepare(call))

    async def restore(self, call: m.Restore) -> m.Restored:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.restore(call))

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.align(call), timeout)

    async def begin(self, call: m.Begin) -> m.Begun:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.begin(call))

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.run_phase(call), what=call.phase.value)

    async def score(self, call: m.Score) -> m.Scored:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.score(call))

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.checkpoint(call))

    async def commit(self, call: m.Commit) -> m.Committed:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.commit(call))

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """See ``ControlChannel``."""
        async with _within(timeout, self._party, call.kind):
            return await self._network.call(
                self._coordinator, self._party, call.kind, lambda end: _coroutine(end.handler.heartbeat(call))
            )

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """See ``ControlChannel``."""
        await self._call(call, lambda handler: handler.abort(call), timeout)

    async def finish(self, call: m.Finish) -> m.Finished:
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.finish(call))

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """See ``ControlChannel``."""
        return await self._call(call, lambda handler: handler.release(call), timeout)

    async def _call(
        self,
        call: m.ControlMessage,
        ask: Callable[[ControlHandler], Awaitable[Reply]],
        timeout: float | None = None,  # noqa: ASYNC109
        what: str = "",
    ) -> Reply:
        key, salt = call_key(call), fresh_salt()
        # A log that cannot be written is a reason to stop, not to continue: an abort is sent even if not recorded.
        with contextlib.suppress(*([AuditError] if isinstance(call, m.Abort) else [])):
            _record(self._recorder, lambda: control_record(Direction.SENT, self._party, key, call, salt))

        async def answer(end: PartyEnd) -> Reply:
            try:
                _record(end.recorder, lambda: control_record(Direction.RECEIVED, self._coordinator, key, call, salt))
            except AuditError:
                if isinstance(call, m.Abort):
                    await ask(end.handler)
                raise
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
