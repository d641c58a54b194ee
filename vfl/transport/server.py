"""The gRPC server of a party: control calls of the coordinator, messages of the other parties, health, reflection."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from vfl import messages as m
from vfl.configuration.federation import FederationConfig, parse_endpoint
from vfl.errors import AuditError, ConfigError, ListenError, ProtocolError
from vfl.ids import Address
from vfl.messages import Message
from vfl.pki.credentials import Credentials
from vfl.runtime.logs import get_logger
from vfl.transport.access import Access, Gate
from vfl.transport.channels import ControlHandler
from vfl.transport.diagnosis.call import Doctor, DoctorHandler
from vfl.transport.inbox import Inbox
from vfl.transport.relay.service import Relay
from vfl.transport.tls.credentials import server_credentials
from vfl.transport.v1 import (
    control_pb2,
    control_pb2_grpc,
    data_pb2,
    data_pb2_grpc,
    doctor_pb2,
    relay_pb2,
    relay_pb2_grpc,
)
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.data_codec import MessageDecoder, decode_address
from vfl.transport.wire.failures import abort_call, as_failure
from vfl.transport.wire.limits import MAX_CONCURRENT_CALLS, server_options
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    call_key,
    control_record,
    data_record,
    received_salt,
)
from vfl.transport.wire.traffic import TrafficMeter

_log = get_logger(__name__)

RequestT = TypeVar("RequestT", bound=m.ControlMessage)


def health_service_name(party: str) -> str:
    """The name under which a party reports its health, so that a caller notices when another one answers."""
    return f"vfl.party.{party}"


class _Control(control_pb2_grpc.ControlServicer):
    def __init__(
        self, party: str, handler: ControlHandler, access: Access, coordinator: str, recorder: Recorder | None
    ) -> None:
        self._party = party
        self._handler = handler
        self._access = access
        self._coordinator = coordinator
        self._recorder = recorder

    async def Prepare(self, request: control_pb2.PrepareRequest, context: Any) -> Any:  # noqa: N802  # name in the .proto
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
            await abort_call(context, error, self._party)

    async def _recorded(
        self, call: RequestT, context: Any, method: Callable[[RequestT], Awaitable[m.ControlMessage | None]]
    ) -> m.ControlMessage | None:
        if self._recorder is None or isinstance(call, m.Heartbeat):  # of no content, and without end
            return await method(call)
        key, salt = call_key(call), received_salt(context)
        try:
            self._recorder.record(control_record(Direction.RECEIVED, self._coordinator, key, call, salt))
        except AuditError:
            if isinstance(call, m.Abort):  # a log that cannot be written is a reason to stop, not to go on
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


class _Data(data_pb2_grpc.DataServicer):
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
            await abort_call(context, error, self._party)

    async def _receive(self, chunks: AsyncIterator[data_pb2.Chunk], context: Any) -> data_pb2.Receipt:
        chunks = _parsed(chunks, self._inbox.limits.stall_seconds)
        header = await _first_header(chunks)
        address = self._admit(header, context)
        salt = b"" if self._recorder is None else received_salt(context)
        try:
            message, content = await self._decoded(header, chunks)
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

    async def _decoded(self, header: data_pb2.Header, chunks: AsyncIterator[data_pb2.Chunk]) -> tuple[Message, bytes]:
        decoder_limit = self._inbox.limits.max_message_bytes
        content = hashlib.sha256()
        with self._inbox.reserve(header.sender, min(header.total_bytes, decoder_limit)):
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
    """The same chunks, but no bytes that are none, and no pause: what a caller has begun takes room here."""
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
            "a message that cannot be read was refused", remedy="check that every party runs the same version of vfl"
        ) from None
    except TimeoutError:
        raise ProtocolError(
            f"a message stopped in the middle for {seconds:g} s", remedy="check the connection of its sender"
        ) from None


async def _first_header(chunks: AsyncIterator[data_pb2.Chunk]) -> data_pb2.Header:
    async for chunk in chunks:
        if chunk.WhichOneof("part") == "header":
            return chunk.header
        break
    raise ProtocolError("a message without a header was refused")


class PartyServer:
    """One party's server.

    Args:
        party: this party's name.
        listen: ``host:port``; port 0 takes a free one.
        handler: does what the coordinator asks.
        inbox: gets the messages of the other parties.
        credentials: this party's certificate and whom it believes; None only with ``insecure-loopback``.
        federation: who takes part.
        traffic: counts what is received.
        recorder: is told of what crosses; None where nothing is recorded.
        doctor: answers members that ask how this party is; None where nobody may.

    Raises:
        ConfigError: the credentials do not fit the federation's ``tls.mode``.
    """

    def __init__(
        self,
        party: str,
        listen: str,
        handler: ControlHandler,
        inbox: Inbox,
        credentials: Credentials | None,
        federation: FederationConfig,
        traffic: TrafficMeter | None = None,
        recorder: Recorder | None = None,
        doctor: DoctorHandler | None = None,
    ) -> None:
        self.party = party
        self.port = 0
        self._listen = listen
        self._credentials = credentials
        self._check_credentials(federation)
        access = Access(federation, credentials)
        self._gate = Gate(access, party)
        self._control = _Control(party, handler, access, federation.coordinator, recorder)
        self._data = _Data(party, inbox, access, traffic or TrafficMeter(), recorder)
        self._relay = Relay(party, federation, access)
        self._doctor = Doctor(party, doctor, access, federation.coordinator) if doctor else None
        self._health = health.aio.HealthServicer()
        self._server: Any = None

    def _check_credentials(self, federation: FederationConfig) -> None:
        if federation.is_mutual_tls != (self._credentials is not None):
            raise ConfigError(
                f"tls.mode is '{federation.tls.mode}', which does not fit the certificates given",
                remedy="set tls.ca, tls.certificate and tls.key in party.toml exactly when tls.mode is 'mutual'",
            )
        if self._credentials is None and not parse_endpoint(self._listen, lowest_port=0).is_loopback:
            raise ConfigError(
                "without TLS a party listens on loopback only",
                detail=f"listen = '{self._listen}'",
                remedy="set tls.mode to 'mutual', or listen on 127.0.0.1",
            )

    async def start(self) -> None:
        """Open the port and answer calls; afterwards ``port`` is the port in use.

        Raises:
            ListenError: the port cannot be opened.
        """
        server = grpc.aio.server(
            interceptors=[self._gate], options=server_options(), maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS
        )
        # Generated code has no types.
        control_pb2_grpc.add_ControlServicer_to_server(self._control, server)  # type: ignore[no-untyped-call]
        data_pb2_grpc.add_DataServicer_to_server(self._data, server)  # type: ignore[no-untyped-call]
        relay_pb2_grpc.add_RelayServicer_to_server(self._relay, server)  # type: ignore[no-untyped-call]
        if self._doctor is not None:
            self._doctor.register(server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection(_service_names(with_doctor=self._doctor is not None), server)
        try:
            self.port = self._bind(server)
        except ListenError:
            await server.stop(None)  # otherwise gRPC complains when it collects the server after the loop has ended
            raise
        await server.start()
        self._server = server
        await self._health.set(health_service_name(self.party), health_pb2.HealthCheckResponse.SERVING)
        _log.info("listening", party=self.party, listen=self._listen, port=self.port)

    def _bind(self, server: Any) -> int:
        try:
            if self._credentials is None:
                return int(server.add_insecure_port(self._listen))
            return int(server.add_secure_port(self._listen, server_credentials(self._credentials)))
        except RuntimeError as error:
            port = parse_endpoint(self._listen, lowest_port=0).port
            raise ListenError(
                f"{self.party} cannot open port {port}",
                detail=f"{self._listen}: {error}",
                remedy=f"stop whatever uses port {port}, or set another 'listen' for {self.party} in federation.toml",
            ) from None

    async def stop(self, grace: float) -> None:
        """Report not serving, refuse new calls, and end those still running after ``grace`` seconds."""
        if self._server is None:
            return
        self._relay.close()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)
        self._server = None


def _service_names(*, with_doctor: bool) -> tuple[str, ...]:
    files = (control_pb2, data_pb2, relay_pb2, *((doctor_pb2,) if with_doctor else ()))
    services = (service for file in files for service in file.DESCRIPTOR.services_by_name.values())
    return (*(s.full_name for s in services), health.SERVICE_NAME, reflection.SERVICE_NAME)
