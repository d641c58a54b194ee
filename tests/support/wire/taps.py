"""Taps the transport: the raw bytes of every request that a party received and of every reply that left it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest

from vfl.transport.server import PartyServer
from vfl.transport.v1 import data_pb2


@dataclass
class Call:
    """One gRPC call, as it crossed.

    Attributes:
        server: the party that was called.
        method: ``Deliver``, ``Prepare`` and so on.
        metadata: what the caller sent beside the request.
        received: serialized messages that reached the server, in order.
        replied: serialized messages that went back.
    """

    server: str
    method: str
    metadata: dict[str, Any]
    received: list[bytes] = field(default_factory=list)
    replied: list[bytes] = field(default_factory=list)

    @property
    def header(self) -> data_pb2.Header:
        """Of a data message."""
        return data_pb2.Chunk.FromString(self.received[0]).header

    @property
    def payload(self) -> bytes:
        """Of a data message: its tensors, one after the other, without the framing."""
        return b"".join(data_pb2.Chunk.FromString(chunk).payload for chunk in self.received[1:])


@dataclass
class Tap:
    """Every call to any party of this process."""

    calls: list[Call] = field(default_factory=list)

    def deliveries(self, server: str | None = None) -> list[Call]:
        """Data messages, of one receiver or of all."""
        return [call for call in self.calls if call.method == "Deliver" and server in (None, call.server)]

    def control(self) -> list[Call]:
        """Calls of the coordinator, but for those that only establish who is there."""
        return [call for call in self.calls if call.method not in ("Deliver", "Prove")]


class _Interceptor(grpc.aio.ServerInterceptor):
    def __init__(self, server: str, tap: Tap) -> None:
        self._server = server
        self._tap = tap

    async def intercept_service(self, continuation: Callable[..., Any], details: Any) -> Any:
        handler = await continuation(details)
        service, _, method = details.method.strip("/").partition("/")
        if handler is None or not service.startswith("vfl."):
            return handler
        call = Call(self._server, method, dict(details.invocation_metadata))
        self._tap.calls.append(call)

        def deserialize(content: bytes) -> Any:
            call.received.append(content)
            return handler.request_deserializer(content)

        def serialize(message: Any) -> bytes:
            content = handler.response_serializer(message)
            call.replied.append(content)
            return content

        make, behavior = (
            (grpc.stream_unary_rpc_method_handler, handler.stream_unary)
            if handler.request_streaming
            else (grpc.unary_unary_rpc_method_handler, handler.unary_unary)
        )
        return make(behavior, request_deserializer=deserialize, response_serializer=serialize)


_STARTING: ContextVar[str] = ContextVar("party whose server is being made")


def tap_servers(monkeypatch: pytest.MonkeyPatch) -> Tap:
    """From now on, record what reaches and leaves every party's server."""
    tap = Tap()
    start, make = PartyServer.start, grpc.aio.server

    async def starting(self: PartyServer) -> None:
        _STARTING.set(self.party)
        await start(self)

    def tapped(interceptors: Sequence[grpc.aio.ServerInterceptor] = (), **options: Any) -> Any:
        return make(interceptors=(_Interceptor(_STARTING.get(), tap), *interceptors), **options)

    monkeypatch.setattr(PartyServer, "start", starting)
    monkeypatch.setattr(grpc.aio, "server", tapped)
    return tap
