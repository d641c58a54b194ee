"""Delivers messages to one party, and carries byte streams through a relay."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from vfl.ids import Address
from vfl.messages import Message
from vfl.pki.credentials import Credentials
from vfl.transport.client.connection import Connection
from vfl.transport.v1 import data_pb2, data_pb2_grpc, relay_pb2_grpc
from vfl.transport.wire.data_codec import encode_header, encode_payload
from vfl.transport.wire.limits import Limits
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    data_record,
    fresh_salt,
    message_sha256,
    salt_metadata,
)
from vfl.transport.wire.traffic import TrafficMeter


class PeerClient(Connection):
    """Delivers messages to one party. A delivery is tried once; whether to repeat it is the coordinator's decision.

    Args:
        endpoint: ``host:port``; may be that of a proxy, since TLS checks the party's server name and not the host.
        peer_name: the party that answers there.
        credentials: this process's certificate and trust; None only with ``insecure-loopback``.
        limits: bounds the size of a message.
        traffic: counts what is sent.
        recorder: receives the record of a message before it is sent, so that nothing leaves unrecorded.
        relay: the connection to the relay that leads to this party; None if it is dialed directly.
    """

    def __init__(
        self,
        endpoint: str,
        peer_name: str,
        credentials: Credentials | None,
        limits: Limits | None = None,
        traffic: TrafficMeter | None = None,
        recorder: Recorder | None = None,
        relay: Connection | None = None,
    ) -> None:
        super().__init__(endpoint, peer_name, credentials, recorder, relay)
        self._limits = limits or Limits()
        self._traffic = traffic or TrafficMeter()

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        """Send a message; returns once the party has stored it.

        Raises:
            ProtocolError: the message is larger than the limit.
            RemoteError: the party refused it.
            PeerUnreachable: the party went away.
            DeadlineExceeded: it took longer than ``timeout`` seconds.
        """
        limit = self._limits.max_message_bytes
        header = encode_header(address, message, receiver=self.peer_name, max_message_bytes=limit)
        salt = fresh_salt()
        if self._recorder is not None:
            content = await asyncio.to_thread(message_sha256, message)
            self._recorder.record(data_record(Direction.SENT, self.peer_name, address, message, salt, content))
        sending = self._send(header, message, timeout, salt)
        await self.recorded_result(sending, f"deliver {address.kind}", timeout, address.key, salt)
        self._traffic.count_sent(address.key.run, self.peer_name, header.total_bytes)

    async def _send(self, header: data_pb2.Header, message: Message, timeout: float, salt: bytes) -> Any:  # noqa: ASYNC109
        stub = data_pb2_grpc.DataStub(await self.channel(timeout))  # type: ignore[no-untyped-call]  # generated
        return await stub.Deliver(_chunks(header, message), timeout=timeout, metadata=salt_metadata(salt))


class RelayClient(Connection):
    """Byte streams through a party that relays connections, see ``vfl.transport.relay.service``."""

    async def accept(self) -> Any:
        """For a party behind the relay: the gRPC stream that waits for one connection and carries it.

        Raises:
            VflError, grpc.aio.AioRpcError: see ``channel``.
        """
        return relay_pb2_grpc.RelayStub(await self.channel()).Accept()  # type: ignore[no-untyped-call]  # generated

    async def connect(self) -> Any:
        """For a caller: the gRPC stream of one connection, which its first piece opens.

        Raises:
            VflError, grpc.aio.AioRpcError: see ``channel``.
        """
        return relay_pb2_grpc.RelayStub(await self.channel()).Connect()  # type: ignore[no-untyped-call]  # generated


async def _chunks(header: data_pb2.Header, message: Message) -> AsyncIterator[data_pb2.Chunk]:
    yield data_pb2.Chunk(header=header)
    for chunk in encode_payload(message):
        yield chunk
