"""A party with a port relays connections to parties without one. It sees only their TLS bytes.

The party without a port keeps a few ``Accept`` calls open (``vfl.transport.relay.tunnel``). A caller's ``Connect`` is
joined to one of them, and bytes flow until either side closes. Both last as long as a connection, so they do not count
as calls in progress; their numbers are limited here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

from google.protobuf.message import DecodeError

from vfl.configuration.federation import FederationConfig
from vfl.errors import AccessDenied, ProtocolError, VflError
from vfl.runtime.background import start_awaited
from vfl.runtime.log_limits import LimitedLog
from vfl.runtime.logs import get_logger
from vfl.transport.access import Access
from vfl.transport.relay.behind import Behind, Joined, close
from vfl.transport.v1 import relay_pb2, relay_pb2_grpc
from vfl.transport.wire.failures import abort_call
from vfl.transport.wire.limits import MAX_RELAYED_OF_PAIR, RELAYED_PIECE_BYTES, REQUEST_SECONDS

_log = get_logger(__name__)
_limited = LimitedLog(_log, "more relayed connections")

NOT_COUNTED_AS_CALLS = frozenset(
    f"/{relay_pb2.DESCRIPTOR.services_by_name['Relay'].full_name}/{name}" for name in ("Accept", "Connect")
)
"""Methods whose calls are connections."""

Pieces = AsyncGenerator[relay_pb2.Piece, None]


class Relay(relay_pb2_grpc.RelayServicer):
    """The relay service of a party with a port.

    Args:
        party: name of the party.
        federation: defines which parties are reached through it.
        access: who may call.
    """

    def __init__(self, party: str, federation: FederationConfig, access: Access) -> None:
        self._party = party
        self._behind = {each.name: Behind(each.name, party) for each in federation.parties if each.via == party}
        self._access = access
        self._unnamed: Counter[str] = Counter()

    async def Accept(self, pieces: Pieces, context: Any) -> Pieces:  # noqa: N802  # name in the .proto
        """For a party behind this one: wait for a caller, then carry its connection."""
        try:
            behind = self._accepting(self._access.require_caller(context, "accepting connections"))
            joined = await behind.wait_for_caller()
        except VflError as error:
            await abort_call(context, error, self._party)
            return
        try:
            yield relay_pb2.Piece(opened=relay_pb2.Opened())
            async with contextlib.aclosing(_carried(pieces, joined.to_caller, joined.to_party, joined)) as carried:
                async for piece in carried:
                    yield piece
        finally:
            close(joined.to_caller)
            behind.accept_ended()

    async def Connect(self, pieces: Pieces, context: Any) -> Pieces:  # noqa: N802
        """For a member that wants to reach a party behind this one."""
        try:
            caller = self._access.require_caller(context, "connections through this party") or "an unknown caller"
            target = await self._target(pieces, caller)
            behind = self._reached(target)
            joined = await behind.join(caller)
        except VflError as error:
            await abort_call(context, error, self._party)
            return
        source = f"{caller} to {target}"
        _limited("info", "relaying a connection", source, caller=caller, to=target)
        try:
            async with contextlib.aclosing(_carried(pieces, joined.to_party, joined.to_caller, joined)) as carried:
                async for piece in carried:
                    yield piece
        finally:
            close(joined.to_party)
            behind.leave(caller)
            _limited("info", "relayed connection ended", source, caller=caller, to=target, bytes=joined.bytes)

    def close(self) -> None:
        """Admit no more callers; connections that are already relayed may finish."""
        for behind in self._behind.values():
            behind.close()

    def _accepting(self, caller: str | None) -> Behind:
        if caller not in self._behind:
            raise AccessDenied(
                "only parties that are reached through this one may accept connections here",
                remedy=f"set via = '{self._party}' for that party in federation.toml, identically at every party",
            )
        return self._behind[caller]

    def _reached(self, target: str) -> Behind:
        if target not in self._behind:
            raise AccessDenied(
                "that party is not reached through this one", remedy="compare federation.toml at both parties"
            )
        return self._behind[target]

    async def _target(self, pieces: Pieces, caller: str) -> str:
        if self._unnamed[caller] >= MAX_RELAYED_OF_PAIR:
            raise ProtocolError(
                f"{caller} already has {MAX_RELAYED_OF_PAIR} connections at {self._party} that name no party, the most "
                "allowed",
                remedy=f"check that {caller} runs the same version of vfl",
            )
        self._unnamed[caller] += 1
        try:
            return await _target(pieces)
        finally:
            self._unnamed[caller] -= 1


async def _target(pieces: Pieces) -> str:
    with contextlib.suppress(DecodeError, StopAsyncIteration, TimeoutError):
        async with asyncio.timeout(REQUEST_SECONDS):
            piece = await anext(aiter(pieces))
        if piece.WhichOneof("part") == "open":
            return piece.open.party
    raise ProtocolError("a connection without the name of a party was refused")


async def _carried(
    pieces: Pieces, outgoing: asyncio.Queue[bytes | None], incoming: asyncio.Queue[bytes | None], joined: Joined
) -> Pieces:
    """Carry one side's pieces to the other; yield what the other sends, until it closes or either call ends."""

    async def feed() -> None:
        with contextlib.suppress(DecodeError):  # unreadable bytes end this side; else the other would wait forever
            async for piece in pieces:
                if len(piece.payload) > RELAYED_PIECE_BYTES:
                    _log.warning("a piece that is too large ended a relayed connection", bytes=len(piece.payload))
                    break
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
