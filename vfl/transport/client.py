"""Calls to a party: messages from its peers, control calls from the coordinator. One connection per object."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vfl import messages as m
from vfl.errors import MismatchError, PeerUnreachable, VflError
from vfl.ids import Address
from vfl.messages import Message
from vfl.transport.codec import encode_header, encode_payload
from vfl.transport.control_codec import from_proto, to_proto
from vfl.transport.failures import Call, from_rpc_error
from vfl.transport.limits import Limits, channel_options
from vfl.transport.server import health_service_name
from vfl.transport.traffic import TrafficMeter
from vfl.transport.v1 import control_pb2_grpc, data_pb2, data_pb2_grpc

ReplyT = TypeVar("ReplyT")

_POLL_SECONDS = 0.1


class _Connection:
    """A channel to one party.

    Args:
        endpoint: ``host:port``; with TLS the party's certificate must be valid for the host.
        peer_name: the party that answers there.
        credentials: of :func:`vfl.transport.credentials.client_credentials`; None only with ``insecure-loopback``.
    """

    def __init__(self, endpoint: str, peer_name: str, credentials: grpc.ChannelCredentials | None) -> None:
        self.endpoint = endpoint
        self.peer_name = peer_name
        options = channel_options(endpoint)
        self._channel: Any = (
            grpc.aio.insecure_channel(endpoint, options=options)
            if credentials is None
            else grpc.aio.secure_channel(endpoint, credentials, options=options)
        )

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers and is serving.

        Raises:
            PeerUnreachable: it did not; ``detail`` says what happened last.
            MismatchError: another party answers there.
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
                # The last try always runs out of time, which says less than the failures before it.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = f"{error.code().name}: {error.details()}"
            await asyncio.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))
        raise PeerUnreachable(
            f"{self.peer_name} did not answer at {self.endpoint} within {timeout:g} s",
            detail=last,
            remedy=f"start {self.peer_name} there; check its endpoint in federation.toml and the certificates of both",
        )

    async def _is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109  # gRPC ends the call itself
        request = health_pb2.HealthCheckRequest(service=health_service_name(self.peer_name))
        reply = await health_pb2_grpc.HealthStub(self._channel).Check(request, timeout=timeout)
        return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

    def _another_party(self) -> VflError:
        return MismatchError(
            f"another party than {self.peer_name} answers at {self.endpoint}",
            remedy="correct the endpoint in federation.toml, or start that party there",
        )

    async def _result(self, call: Awaitable[Any], what: str, timeout: float) -> Any:  # noqa: ASYNC109
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error, Call(self.peer_name, self.endpoint, what, timeout)) from None

    async def close(self) -> None:
        """Close the connection; calls that still run are cancelled."""
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
        endpoint: ``host:port``; with TLS the party's certificate must be valid for the host.
        peer_name: the party that answers there.
        credentials: of :func:`vfl.transport.credentials.client_credentials`; None only with ``insecure-loopback``.
        limits: bounds the size of a message.
        traffic: counts what is sent.
    """

    def __init__(
        self,
        endpoint: str,
        peer_name: str,
        credentials: grpc.ChannelCredentials | None,
        limits: Limits | None = None,
        traffic: TrafficMeter | None = None,
    ) -> None:
        super().__init__(endpoint, peer_name, credentials)
        self._stub = data_pb2_grpc.DataStub(self._channel)  # type: ignore[no-untyped-call]  # generated
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
        call = self._stub.Deliver(_chunks(header, message), timeout=timeout)
        await self._result(call, f"deliver {address.kind}", timeout)
        self._traffic.count_sent(address.key.job, self.peer_name, header.total_bytes)


async def _chunks(header: data_pb2.Header, message: Message) -> AsyncIterator[data_pb2.Chunk]:
    yield data_pb2.Chunk(header=header)
    for chunk in encode_payload(message):
        yield chunk


class ControlClient(_Connection):
    """The coordinator's calls to one party.

    Every method raises RemoteError (the party's own error), PeerUnreachable (it went away), DeadlineExceeded (it took
    longer than ``timeout`` seconds), AccessDenied or MismatchError (gRPC itself was refused).
    """

    def __init__(self, endpoint: str, peer_name: str, credentials: grpc.ChannelCredentials | None) -> None:
        super().__init__(endpoint, peer_name, credentials)
        self._stub = control_pb2_grpc.ControlStub(self._channel)  # type: ignore[no-untyped-call]  # generated

    async def prepare(self, call: m.Prepare, timeout: float) -> m.Prepared:  # noqa: ASYNC109
        """Get ready for a job."""
        return await self._call(self._stub.Prepare, call, m.Prepared, timeout)

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Find the common ids, exchange keys, build the models; or only count the common ids."""
        return await self._call(self._stub.Align, call, m.Aligned, timeout)

    async def begin(self, call: m.Begin, timeout: float) -> m.Begun:  # noqa: ASYNC109
        """Agree on initial weights."""
        return await self._call(self._stub.Begin, call, m.Begun, timeout)

    async def run_phase(self, call: m.PhaseCall, timeout: float) -> m.PhaseReport:  # noqa: ASYNC109
        """Do one phase of one step."""
        return await self._call(self._stub.RunPhase, call, m.PhaseReport, timeout, what=call.phase.value)

    async def score(self, call: m.Score, timeout: float) -> m.Scored:  # noqa: ASYNC109
        """Compute metrics."""
        return await self._call(self._stub.Score, call, m.Scored, timeout)

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Stop the job."""
        await self._result(self._stub.Abort(to_proto(call), timeout=timeout), "abort", timeout)

    async def finish(self, call: m.Finish, timeout: float) -> m.Finished:  # noqa: ASYNC109
        """Save the party's part of the model."""
        return await self._call(self._stub.Finish, call, m.Finished, timeout)

    async def _call(
        self,
        method: Any,
        call: Any,
        reply_type: type[ReplyT],
        timeout: float,  # noqa: ASYNC109
        what: str = "",
    ) -> ReplyT:
        what = what or type(call).__name__.lower()
        reply = await self._result(method(to_proto(call), timeout=timeout), what, timeout)
        return from_proto(reply, reply_type)
