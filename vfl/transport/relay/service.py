"""A party with a port relays connections to parties without one. It sees only their TLS bytes.

The party without a port keeps a few ``Accept`` calls open (``vfl.transport.relay.tunnel``). A caller's ``Connect`` is
joined to one of them, and bytes flow until either side closes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.message import DecodeError

from vfl.configuration.federation import FederationConfig
from vfl.errors import AccessDenied, PeerUnreachable, ProtocolError, VflError
from vfl.runtime.background import start_awaited
from vfl.runtime.logs import get_logger
from vfl.transport.access import Access
from vfl.transport.v1 import relay_pb2, relay_pb2_grpc
from vfl.transport.wire.failures import abort_call
from vfl.transport.wire.limits import REQUEST_SECONDS

_log = get_logger(__name__)

MAX_WAITING = 16
"""Maximum number of ``Accept`` calls of one party that wait for callers."""
MAX_JOINED = 64
"""Maximum number of connections relayed at once."""
_PIECES_AHEAD = 4
"""Pieces kept for a side that reads slowly, before the other side has to wait."""

Pieces = AsyncGenerator[relay_pb2.Piece, None]


class _Joined:
    """One connection: what each side has sent and the other has not yet received. ``None`` marks the end."""

    def __init__(self) -> None:
        self.to_party: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self.to_caller: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self.bytes = 0


class Relay(relay_pb2_grpc.RelayServicer):
    """The relay service of a party with a port.

    Args:
        party: name of the party.
        federation: defines which parties are reached through it.
        access: who may call.
    """

    def __init__(self, party: str, federation: FederationConfig, access: Access) -> None:
        self._party = party
        self._behind = {entry.name for entry in federation.parties if entry.via == party}
        self._access = access
        self._waiting: dict[str, deque[asyncio.Future[_Joined]]] = {name: deque() for name in self._behind}
        self._joined = 0

    async def Accept(self, pieces: Pieces, context: Any) -> Pieces:  # noqa: N802  # name in the .proto
        """For a party behind this one: wait for a caller, then carry its connection."""
        waiter: asyncio.Future[_Joined] = asyncio.get_running_loop().create_future()
        try:
            queue = self._queue_of(self._access.require_caller(context, "accepting connections"))
            joined = await _caller(queue, waiter)
        except VflError as error:
            await abort_call(context, error, self._party)
            return
        try:
            yield relay_pb2.Piece(opened=relay_pb2.Opened())
            async with contextlib.aclosing(_carried(pieces, joined.to_caller, joined.to_party, joined)) as carried:
                async for piece in carried:
                    yield piece
        finally:
            _close(joined.to_caller)

    async def Connect(self, pieces: Pieces, context: Any) -> Pieces:  # noqa: N802
        """For a member that wants to reach a party behind this one."""
        try:
            caller = self._access.require_caller(context, "connections through this party")
            target = await _target(pieces)
            joined = self._join(target)
        except VflError as error:
            await abort_call(context, error, self._party)
            return
        _log.info("relaying a connection", caller=caller, to=target)
        try:
            async with contextlib.aclosing(_carried(pieces, joined.to_party, joined.to_caller, joined)) as carried:
                async for piece in carried:
                    yield piece
        finally:
            _close(joined.to_party)
            self._joined -= 1
            _log.info("relayed connection ended", caller=caller, to=target, bytes=joined.bytes)

    def close(self) -> None:
        """Admit no more callers; connections that are already relayed may finish."""
        for waiter in (waiter for queue in self._waiting.values() for waiter in queue):
            if not waiter.done():
                waiter.set_exception(PeerUnreachable("the relay is stopping", remedy=f"start {self._party} again"))

    def _queue_of(self, caller: str | None) -> deque[asyncio.Future[_Joined]]:
        if caller not in self._behind:
            raise AccessDenied(
                "only parties that are reached through this one may accept connections here",
                remedy=f"set via = '{self._party}' for that party in federation.toml, identically at every party",
            )
        queue = self._waiting[caller]
        if len(queue) >= MAX_WAITING:
            raise ProtocolError(f"more than {MAX_WAITING} connections are kept open in advance for callers")
        return queue

    def _join(self, target: str) -> _Joined:
        if target not in self._behind:
            raise AccessDenied(
                "that party is not reached through this one", remedy="compare federation.toml at both parties"
            )
        if self._joined >= MAX_JOINED:
            raise PeerUnreachable(f"{self._party} already relays {MAX_JOINED} connections", remedy="try again later")
        queue = self._waiting[target]
        while queue:
            waiter = queue.popleft()
            if not waiter.done():
                joined = _Joined()
                waiter.set_result(joined)
                self._joined += 1
                return joined
        raise PeerUnreachable(
            f"{target} is not connected to {self._party}, through which it is reached", remedy=f"start {target}"
        )


async def _caller(queue: deque[asyncio.Future[_Joined]], waiter: asyncio.Future[_Joined]) -> _Joined:
    """Wait in the queue for a caller. If this wait is canceled just as a caller is joined, the caller is notified."""
    queue.append(waiter)
    try:
        return await waiter
    except asyncio.CancelledError:
        if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            _close(waiter.result().to_caller)
        raise
    finally:
        with contextlib.suppress(ValueError):  # it was taken from the queue
            queue.remove(waiter)


async def _target(pieces: Pieces) -> str:
    with contextlib.suppress(DecodeError, StopAsyncIteration, TimeoutError):
        async with asyncio.timeout(REQUEST_SECONDS):
            piece = await anext(aiter(pieces))
        if piece.WhichOneof("part") == "open":
            return piece.open.party
    raise ProtocolError("a connection without the name of a party was refused")


async def _carried(
    pieces: Pieces, outgoing: asyncio.Queue[bytes | None], incoming: asyncio.Queue[bytes | None], joined: _Joined
) -> Pieces:
    """Carry one side's pieces to the other; yield what the other sends, until it closes or either call ends."""

    async def feed() -> None:
        with contextlib.suppress(DecodeError):  # unreadable bytes end this side; else the other would wait forever
            async for piece in pieces:
                if piece.payload:
                    joined.bytes += len(piece.payload)
                    await outgoing.put(piece.payload)
        await outgoing.put(None)

    feeding = start_awaited(feed())
    try:
        while (payload := await incoming.get()) is not None:
            yield relay_pb2.Piece(payload=payload)
    finally:
        feeding.cancel()
        await asyncio.gather(feeding, return_exceptions=True)  # it can fail only because of this side's connection


def _close(queue: asyncio.Queue[bytes | None]) -> None:
    """Signal the end to the other side; pieces that it has not read yet may be dropped."""
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
