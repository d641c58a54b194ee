"""Targets: the pieces of connections that a relay passes on, at the relay and at both ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc.aio
from grpc import _common as grpc_common

from support.fuzzing.decoders.messages import loop
from support.fuzzing.edits import framed, frames
from support.fuzzing.members import ACTIVE, PASSIVE, Context
from support.fuzzing.registry import fuzz_target
from vfl.configuration.federation import FederationConfig
from vfl.transport.relay import tunnel
from vfl.transport.relay.service import Relay
from vfl.transport.v1 import relay_pb2

HIDDEN = "telco"
SECONDS = 5.0
_PIECES = (
    relay_pb2.Piece(open=relay_pb2.Open(party=HIDDEN)),
    relay_pb2.Piece(payload=b"bytes of a connection"),
    relay_pb2.Piece(opened=relay_pb2.Opened()),
)


class _AnyMember:
    """Lets every caller in under the name that its properties say."""

    def require_caller(self, context: Any, _: str) -> str:
        return context.auth_context()["name"][0].decode()


def _federation() -> FederationConfig:
    parties = [
        {"name": ACTIVE, "role": "active", "endpoint": "127.0.0.1:5001"},
        {"name": PASSIVE, "role": "passive", "endpoint": "127.0.0.1:5002"},
        {"name": HIDDEN, "role": "passive", "via": ACTIVE},
    ]
    return FederationConfig.model_validate({"name": "demo", "coordinator": "hub", "parties": parties})


def _seeds() -> Iterator[bytes]:
    pieces = [piece.SerializeToString() for piece in _PIECES]
    yield framed(pieces)
    yield framed([*pieces, *pieces[1:]])
    yield framed(pieces[1:])


async def _parsed(raw: list[bytes]) -> AsyncIterator[relay_pb2.Piece]:
    for piece in raw:
        yield relay_pb2.Piece.FromString(piece)


async def _drained(replies: AsyncIterator[relay_pb2.Piece]) -> None:
    async for _ in replies:
        pass


async def _relayed(raw: list[bytes]) -> None:
    relay = Relay(ACTIVE, _federation(), _AnyMember())
    hidden, caller = (Context(properties={"name": [name.encode()]}) for name in (HIDDEN, PASSIVE))
    accepting = asyncio.create_task(_drained(relay.Accept(_parsed(raw[1::2]), hidden)))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(SECONDS):
            await _drained(relay.Connect(_parsed(raw), caller))
            await accepting
    finally:
        accepting.cancel()
        relay.close()
        await asyncio.gather(accepting, return_exceptions=True)


@fuzz_target(_seeds)
def relay_pieces(data: bytes) -> None:
    """What a caller, and a party behind the relay, send to it: every second piece comes from the latter, too."""
    loop().run_until_complete(_relayed(list(frames(data))))


class _Call:
    """The stream of a client, which gets None for a piece that cannot be read."""

    def __init__(self, raw: list[bytes]) -> None:
        self._raw = iter(raw)

    async def read(self) -> Any:
        raw = next(self._raw, None)
        return grpc.aio.EOF if raw is None else grpc_common.deserialize(raw, relay_pb2.Piece.FromString)

    async def write(self, _: relay_pb2.Piece) -> None:
        pass

    async def done_writing(self) -> None:
        pass


class _Writer:
    """The side toward this process's own port."""

    def write(self, content: bytes) -> None:
        if not isinstance(content, bytes):
            raise TypeError("only bytes go through a connection")

    async def drain(self) -> None:
        pass


async def _through_tunnel(raw: list[bytes]) -> None:
    reader = asyncio.StreamReader()
    reader.feed_eof()
    async with asyncio.timeout(SECONDS):
        await tunnel._pump(_Call(raw), reader, _Writer())


@fuzz_target(_seeds)
def tunnel_pieces(data: bytes) -> None:
    """What the relay sends to either end of a connection."""
    loop().run_until_complete(_through_tunnel(list(frames(data))))
