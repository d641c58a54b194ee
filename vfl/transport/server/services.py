"""The two services of a party: control calls from the coordinator, and messages from the other parties."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from vfl import messages as m
from vfl.errors import AuditError, ProtocolError
from vfl.ids import Address
from vfl.messages import Message
from vfl.transport.access import Access
from vfl.transport.channels import ControlHandler
from vfl.transport.inbox import Inbox
from vfl.transport.v1 import (
    control_pb2,
    control_pb2_grpc,
    data_pb2,
    data_pb2_grpc,
)
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.data_codec import MessageDecoder, decode_address
from vfl.transport.wire.failures import abort_call, as_failure
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    call_key,
    control_record,
    data_record,
    received_salt,
)
from vfl.transport.wire.traffic import TrafficMeter

RequestT = TypeVar("RequestT", bound=m.ControlMessage)


class ControlService(control_pb2_grpc.ControlServicer):
    """Passes the coordinator's calls, and nobody else's, to the handler."""

    def __init__(
        self, party: str, handler: ControlHandler, access: Access, coordinator: str, recorder: Recorder | None
    ) -> None:
        self._party = party
        self._handler = handler
        self._access = access
        self._coordinator = coordinator
        self._recorder = recorder

    async def Offer(self, request: control_pb2.OfferRequest, context: Any) -> Any:  # noqa: N802  # name in the .proto
        return await self._answer(request, context, m.Offer, self._handler.offer)

    async def Prepare(self, request: control_pb2.PrepareRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Prepare, self._handler.prepare)

    async def Restore(self, request: control_pb2.RestoreRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Restore, self._handler.restore)

    async def Align(self, request: control_pb2.AlignRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Align, self._handler.align)

    async def Begin(self, request: control_pb2.BeginRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Begin, self._handler.begin)

    async def RunPhase(self, request: control_pb2.RunPhaseRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.PhaseCall, self._handler.run_phase)

    async def Score(self, request: control_pb2.ScoreRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Score, self._handler.score)

    async def Checkpoint(self, request: control_pb2.CheckpointRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Checkpoint, self._handler.checkpoint)

    async def Commit(self, request: control_pb2.CommitRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Commit, self._handler.commit)

    async def Heartbeat(self, request: control_pb2.HeartbeatRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Heartbeat, self._handler.heartbeat)

    async def Abort(self, request: control_pb2.AbortRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Abort, self._handler.abort)

    async def Finish(self, request: control_pb2.FinishRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Finish, self._handler.finish)

    async def Release(self, request: control_pb2.ReleaseRequest, context: Any) -> Any:  # noqa: N802
        return await self._answer(request, context, m.Release, self._handler.release)

    async def _answer(
        self, request: Any, context: Any, call_type: type[RequestT], method: Callable[[RequestT], Awaitable[Any]]
    ) -> Any:
        try:
            self._access.require(context, self._coordinator, "control calls")
            reply = await self._recorded(from_proto(request, call_type), context, method)
            return control_pb2.AbortReply() if reply is None else to_proto(reply)
        except Exception as error:  # noqa: BLE001  # the boundary: whatever happened, the caller gets the safe part only
            await abort_call(context, error, self._party, paced=True)

    async def _recorded(
        self, call: RequestT, context: Any, method: Callable[[RequestT], Awaitable[m.ControlMessage | None]]
    ) -> m.ControlMessage | None:
        if self._recorder is None or isinstance(call, m.Heartbeat):  # no content, no end
            return await method(call)
        key, salt = call_key(call), received_salt(context)
        try:
            self._recorder.record(control_record(Direction.RECEIVED, self._coordinator, key, call, salt))
        except AuditError:
            if isinstance(call, m.Abort):  # a log that cannot be written is a reason to stop, not to continue
                await method(call)
            raise
        try:
            reply = await method(call)
        except Exception as error:
            failure = as_failure(error, self._party)
            self._recorder.record(control_record(Direction.SENT, self._coordinator, key, failure, salt))
            raise
        if reply is not None:
            self._recorder.record(control_record(Direction.SENT, self._coordinator, key, reply, salt))
        return reply


class DataService(data_pb2_grpc.DataServicer):
    """Puts the messages from the other parties in the inbox."""

    def __init__(
        self, party: str, inbox: Inbox, access: Access, traffic: TrafficMeter, recorder: Recorder | None
    ) -> None:
        self._party = party
        self._inbox = inbox
        self._access = access
        self._traffic = traffic
        self._recorder = recorder

    async def Deliver(self, request_iterator: AsyncIterator[data_pb2.Chunk], context: Any) -> Any:  # noqa: N802
        try:
            return await self._receive(request_iterator, context)
        except Exception as error:  # noqa: BLE001  # the boundary, as above
            await abort_call(context, error, self._party, paced=True)

    async def _receive(self, chunks: AsyncIterator[data_pb2.Chunk], context: Any) -> data_pb2.Receipt:
        chunks = _parsed(chunks, self._inbox.limits.stall_seconds)
        header = await _first_header(chunks)
        address = self._admit(header, context)
        salt = b"" if self._recorder is None else received_salt(context)
        try:
            message, content = await self._decoded(address, header, chunks)
            if self._recorder is not None:
                crossing = data_record(Direction.RECEIVED, address.sender, address, message, salt, content)
                self._recorder.record(crossing)
            self._inbox.put(address, message)
        except Exception as error:
            if self._recorder is not None:
                failure = as_failure(error, self._party)
                self._recorder.record(control_record(Direction.SENT, address.sender, address.key, failure, salt))
            raise
        self._traffic.count_received(address.key.run, address.sender, header.total_bytes)
        return data_pb2.Receipt(received_bytes=header.total_bytes)

    async def _decoded(
        self, address: Address, header: data_pb2.Header, chunks: AsyncIterator[data_pb2.Chunk]
    ) -> tuple[Message, bytes]:
        decoder_limit = self._inbox.limits.max_message_bytes
        content = hashlib.sha256()
        with self._inbox.reserve(address, min(header.total_bytes, decoder_limit)):
            decoder = MessageDecoder(header, max_message_bytes=decoder_limit)
            async for chunk in chunks:
                decoder.feed(chunk)
                if self._recorder is not None:
                    content.update(chunk.payload)
            return decoder.finish(), content.digest()

    def _admit(self, header: data_pb2.Header, context: Any) -> Address:
        self._access.require_member(header.sender)
        self._access.require(context, header.sender, "messages in this name")
        address = decode_address(header, receiver=self._party)
        self._access.require_route(address, self._party)
        return address


async def _parsed(chunks: AsyncIterator[data_pb2.Chunk], seconds: float) -> AsyncIterator[data_pb2.Chunk]:
    """The chunks, refusing unreadable bytes and long pauses, since a message that has begun takes room here."""
    waiting = aiter(chunks)
    try:
        while True:
            async with asyncio.timeout(seconds):
                chunk = await anext(waiting)
            yield chunk
    except StopAsyncIteration:
        return
    except DecodeError:
        raise ProtocolError(
            "an unreadable message was refused", remedy="check that every party runs the same version of vfl"
        ) from None
    except TimeoutError:
        raise ProtocolError(
            f"a message stalled for {seconds:g} s while being received", remedy="check the connection of its sender"
        ) from None


async def _first_header(chunks: AsyncIterator[data_pb2.Chunk]) -> data_pb2.Header:
    async for chunk in chunks:
        if chunk.WhichOneof("part") == "header":
            return chunk.header
        break
    raise ProtocolError("a message without a header was refused")
