"""Calls to a party: messages from its peers, control calls from the coordinator. One connection per object."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vfl import messages as m
from vfl.errors import AuditError, MismatchError, PeerUnreachable, RemoteError, VflError
from vfl.ids import Address, StepKey
from vfl.messages import Message
from vfl.pki.credentials import Credentials
from vfl.transport.diagnosis.connection_check import explain_connection
from vfl.transport.server import health_service_name
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.v1 import control_pb2_grpc, data_pb2, data_pb2_grpc, relay_pb2_grpc
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.data_codec import encode_header, encode_payload
from vfl.transport.wire.failures import Call, as_failure, from_rpc_error, readable
from vfl.transport.wire.limits import Limits, channel_options
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    call_key,
    control_record,
    data_record,
    fresh_salt,
    message_sha256,
    salt_metadata,
)
from vfl.transport.wire.traffic import TrafficMeter

ReplyT = TypeVar("ReplyT", bound=m.ControlMessage)

_POLL_SECONDS = 0.1
_OLD_CHANNEL_GRACE = 3600.0
"""Seconds that calls may still take on a connection whose certificates were renewed."""


class _Connection:
    """A channel to one party.

    Args:
        endpoint: ``host:port``; may be a proxy's, since TLS checks the party's server name and not the host.
        peer_name: the party that answers there.
        credentials: this process's certificate and whom it believes; None only with ``insecure-loopback``.
        recorder: is told of what crosses; None where nothing is recorded.
    """

    def __init__(
        self,
        endpoint: str,
        peer_name: str,
        credentials: Credentials | None,
        recorder: Recorder | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.peer_name = peer_name
        self._credentials = credentials
        self._recorder = recorder
        self._closing: set[asyncio.Task[None]] = set()
        self._connect()

    def _connect(self) -> None:
        options = channel_options(self.endpoint)
        if self._credentials is None:
            self._channel: Any = grpc.aio.insecure_channel(self.endpoint, options=options)
            return
        self._generation = self._credentials.generation
        self._channel = secure_channel(self._credentials, self.endpoint, self.peer_name, options)

    def _current(self) -> Any:
        """The channel for the next call: a new one when certificates were renewed; calls on the old one may end."""
        if self._credentials is not None:
            self._credentials.refresh()
            if self._credentials.generation != self._generation:
                task = asyncio.create_task(self._channel.close(_OLD_CHANNEL_GRACE))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                self._connect()
        return self._channel

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers and is serving.

        Raises:
            PeerUnreachable: it did not; ``detail`` says what happened last.
            MismatchError: another party answers there.
            RemoteError: it does not accept this process's certificate.
        """
        deadline = time.monotonic() + timeout
        last = "nothing answered"
        while (left := deadline - time.monotonic()) > 0:
            try:
                if await self._is_serving(left):
                    return
                last = "it answers, but is not serving"
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise self._another_party() from None
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    raise from_rpc_error(error, Call(self.peer_name, self.endpoint, "health", timeout)) from None
                # The last try always runs out of time, which says less than the failures before it.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = f"{error.code().name}: {error.details()}"
            await asyncio.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))
        raise PeerUnreachable(
            f"{self.peer_name} did not answer at {self.endpoint} within {timeout:g} s",
            detail=await self._explained(last),
            remedy=f"start {self.peer_name} there; check its endpoint in federation.toml and the certificates of both",
        )

    async def _is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109  # gRPC ends the call itself
        request = health_pb2.HealthCheckRequest(service=health_service_name(self.peer_name))
        reply = await health_pb2_grpc.HealthStub(self._current()).Check(request, timeout=timeout)
        return bool(readable(reply, self.peer_name).status == health_pb2.HealthCheckResponse.SERVING)

    def _another_party(self) -> VflError:
        return MismatchError(
            f"another party than {self.peer_name} answers at {self.endpoint}",
            remedy="correct the endpoint in federation.toml, or start that party there",
        )

    async def _result(self, call: Awaitable[Any], what: str, timeout: float | None) -> Any:  # noqa: ASYNC109
        try:
            return readable(await call, self.peer_name)
        except asyncio.CancelledError:
            if not channel_was_closed():
                raise
            raise PeerUnreachable(
                f"a call to {self.peer_name} was still going on long after certificates had been renewed, and was ended"
            ) from None
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error, Call(self.peer_name, self.endpoint, what, timeout or math.inf))
        if isinstance(known, PeerUnreachable):
            known.detail = await self._explained(known.detail)
        raise known

    async def _explained(self, detail: str) -> str:
        """What gRPC says about a lost connection, and with TLS what another handshake shows."""
        if self._credentials is None:
            return detail
        seen = await explain_connection(self.endpoint, self.peer_name, self._credentials)
        return f"{detail}\n{seen}"

    async def _recorded_result(
        self,
        call: Awaitable[Any],
        what: str,
        timeout: float | None,  # noqa: ASYNC109
        key: StepKey,
        salt: bytes,
    ) -> Any:
        """As ``_result``; a refusal by the other party is recorded, for it has crossed as well."""
        try:
            return await self._result(call, what, timeout)
        except RemoteError as error:
            self._record_control(Direction.RECEIVED, key, as_failure(error, self.peer_name), salt)
            raise

    def _record_control(self, direction: Direction, key: StepKey, message: m.ControlMessage, salt: bytes) -> None:
        if self._recorder is not None:
            self._recorder.record(control_record(direction, self.peer_name, key, message, salt))

    async def close(self) -> None:
        """Close the connection; calls that still run are cancelled."""
        for task in tuple(self._closing):
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


class PeerClient(_Connection):
    """Delivers messages to one party. A delivery is tried once; to repeat it is the coordinator's decision.

    Args:
        endpoint: ``host:port``; may be a proxy's, since TLS checks the party's server name and not the host.
        peer_name: the party that answers there.
        credentials: this process's certificate and whom it believes; None only with ``insecure-loopback``.
        limits: bounds the size of a message.
        traffic: counts what is sent.
        recorder: is told of a message before it leaves, so that nothing leaves unrecorded.
    """

    def __init__(
        self,
        endpoint: str,
        peer_name: str,
        credentials: Credentials | None,
        limits: Limits | None = None,
        traffic: TrafficMeter | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        super().__init__(endpoint, peer_name, credentials, recorder)
        self._limits = limits or Limits()
        self._traffic = traffic or TrafficMeter()

    async def deliver(self, address: Address, message: Message, timeout: float) -> None:  # noqa: ASYNC109
        """Send a message; returns when the party has stored it.

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
        stub = data_pb2_grpc.DataStub(self._current())  # type: ignore[no-untyped-call]  # generated
        call = stub.Deliver(_chunks(header, message), timeout=timeout, metadata=salt_metadata(salt))
        await self._recorded_result(call, f"deliver {address.kind}", timeout, address.key, salt)
        self._traffic.count_sent(address.key.run, self.peer_name, header.total_bytes)


def channel_was_closed() -> bool:
    """Of a CancelledError that was caught: whether it is what gRPC raises when a channel is closed.

    It looks like a cancellation of this task, but nobody has asked for one.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


class RelayClient(_Connection):
    """Byte streams through a party that passes connections on, see ``vfl.transport.relay.service``."""

    def accept(self) -> Any:
        """Of a party behind it: wait for one connection. The gRPC stream."""
        return relay_pb2_grpc.RelayStub(self._current()).Accept()  # type: ignore[no-untyped-call]  # generated

    def connect(self) -> Any:
        """Of a caller: one connection, to be opened with its first piece. The gRPC stream."""
        return relay_pb2_grpc.RelayStub(self._current()).Connect()  # type: ignore[no-untyped-call]  # generated


async def _chunks(header: data_pb2.Header, message: Message) -> AsyncIterator[data_pb2.Chunk]:
    yield data_pb2.Chunk(header=header)
    for chunk in encode_payload(message):
        yield chunk


class ControlClient(_Connection):
    """The coordinator's calls to one party.

    Every method raises RemoteError (the party's own error), PeerUnreachable (it went away), AccessDenied or
    MismatchError (gRPC itself was refused); those with a ``timeout`` raise DeadlineExceeded after so many seconds. The
    others wait for as long as the call takes: whether the party gets on is asked by heartbeats.
    """

    @property
    def _stub(self) -> Any:
        return control_pb2_grpc.ControlStub(self._current())  # type: ignore[no-untyped-call]  # generated

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a job."""
        return await self._call(self._stub.Prepare, call, m.Prepared)

    async def restore(self, call: m.Restore) -> m.Restored:
        """Take a checkpoint, to go on from it."""
        return await self._call(self._stub.Restore, call, m.Restored)

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Find the common ids, exchange keys, build the models; or only count the common ids."""
        return await self._call(self._stub.Align, call, m.Aligned, timeout)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""
        return await self._call(self._stub.Begin, call, m.Begun)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""
        return await self._call(self._stub.RunPhase, call, m.PhaseReport, what=call.phase.value)

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""
        return await self._call(self._stub.Score, call, m.Scored)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write down the state after a step."""
        return await self._call(self._stub.Checkpoint, call, m.Checkpointed)

    async def commit(self, call: m.Commit) -> m.Committed:
        """All parties have written their checkpoint."""
        return await self._call(self._stub.Commit, call, m.Committed)

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """Is it there, and does it get on? Has no content and no end, so it is not recorded."""
        request = self._stub.Heartbeat(to_proto(call), timeout=timeout)
        return from_proto(await self._result(request, call.kind, timeout), m.Alive)

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Stop the job; said even where it cannot be recorded, or a full disk would leave the others waiting."""
        salt = fresh_salt()
        with contextlib.suppress(AuditError):
            self._record_control(Direction.SENT, call_key(call), call, salt)
        await self._send(self._stub.Abort, call, timeout, call.kind, salt)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""
        return await self._call(self._stub.Finish, call, m.Finished)

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """The job is over."""
        return await self._call(self._stub.Release, call, m.Released, timeout)

    async def _call(
        self,
        method: Any,
        call: m.ControlMessage,
        reply_type: type[ReplyT],
        timeout: float | None = None,  # noqa: ASYNC109
        what: str = "",
    ) -> ReplyT:
        salt = fresh_salt()
        proto = await self._ask(method, call, timeout, what or call.kind, salt)
        reply = from_proto(proto, reply_type)
        self._record_control(Direction.RECEIVED, call_key(call), reply, salt)
        return reply

    async def _ask(self, method: Any, call: m.ControlMessage, timeout: float | None, what: str, salt: bytes) -> Any:  # noqa: ASYNC109
        self._record_control(Direction.SENT, call_key(call), call, salt)
        return await self._send(method, call, timeout, what, salt)

    async def _send(self, method: Any, call: m.ControlMessage, timeout: float | None, what: str, salt: bytes) -> Any:  # noqa: ASYNC109
        request = method(to_proto(call), timeout=timeout, metadata=salt_metadata(salt))
        return await self._recorded_result(request, what, timeout, call_key(call), salt)
