"""A gRPC connection to one party that follows certificate renewals and explains its failures."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vfl import messages as m
from vfl.errors import MismatchError, PeerUnreachable, RemoteError, VflError
from vfl.ids import StepKey
from vfl.pki.credentials import Credentials
from vfl.runtime.background import start
from vfl.transport.diagnosis.connection_check import explain_connection
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.wire.failures import Call, as_failure, from_rpc_error, readable
from vfl.transport.wire.health import health_service_name
from vfl.transport.wire.limits import channel_options
from vfl.transport.wire.local_endpoints import shown
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    control_record,
)

_POLL_SECONDS = 0.1
_OLD_CHANNEL_GRACE = 3600.0
"""Seconds that calls in progress may still take after certificates are renewed."""


class Connection:
    """A channel to one party.

    Args:
        endpoint: ``host:port``; may be that of a proxy, since TLS checks the party's server name and not the host. Or a
            socket of this process that leads through a relay.
        peer_name: the party that answers there.
        credentials: this process's certificate and trust; None only with ``insecure-loopback``.
        recorder: receives a record of every message; None if nothing is recorded.
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

    def current(self) -> Any:
        """The channel for the next call: a new one if certificates were renewed; calls on the old one may finish."""
        if self._credentials is not None:
            self._credentials.refresh()
            if self._credentials.generation != self._generation:
                task = start(self._channel.close(_OLD_CHANNEL_GRACE))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
                self._connect()
        return self._channel

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers and is serving.

        Raises:
            PeerUnreachable: it does not; ``detail`` says what happened last.
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
                # The last try always times out, which says less than the failures before it.
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = f"{error.code().name}: {error.details()}"
            await asyncio.sleep(min(_POLL_SECONDS, max(deadline - time.monotonic(), 0)))
        raise PeerUnreachable(
            f"{self.peer_name} did not answer at {shown(self.endpoint)} within {timeout:g} s",
            detail=await self._explained(last),
            remedy=f"start {self.peer_name} there; check its endpoint in federation.toml and both sides' certificates",
        )

    async def _is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109  # gRPC ends the call itself
        request = health_pb2.HealthCheckRequest(service=health_service_name(self.peer_name))
        reply = await health_pb2_grpc.HealthStub(self.current()).Check(request, timeout=timeout)
        return bool(readable(reply, self.peer_name).status == health_pb2.HealthCheckResponse.SERVING)

    def _another_party(self) -> VflError:
        return MismatchError(
            f"a party other than {self.peer_name} answers at {shown(self.endpoint)}",
            remedy="correct the endpoint in federation.toml, or start that party there",
        )

    async def result(self, call: Awaitable[Any], what: str, timeout: float | None) -> Any:  # noqa: ASYNC109
        """The party's reply to a call. A failed call raises the error that describes the failure."""
        try:
            return readable(await call, self.peer_name)
        except asyncio.CancelledError:
            if not channel_was_closed():
                raise
            raise PeerUnreachable(
                f"a call to {self.peer_name} was still running long after certificates were renewed, and was ended"
            ) from None
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error, Call(self.peer_name, self.endpoint, what, timeout or math.inf))
        if isinstance(known, PeerUnreachable):
            known.detail = await self._explained(known.detail)
        raise known

    async def _explained(self, detail: str) -> str:
        """What gRPC reports about a lost connection and, with TLS, what another handshake shows."""
        if self._credentials is None:
            return detail
        seen = await explain_connection(self.endpoint, self.peer_name, self._credentials)
        return f"{detail}\n{seen}"

    async def recorded_result(
        self,
        call: Awaitable[Any],
        what: str,
        timeout: float | None,  # noqa: ASYNC109
        key: StepKey,
        salt: bytes,
    ) -> Any:
        """As ``result``, but also records a refusal by the other party, since it is a message too."""
        try:
            return await self.result(call, what, timeout)
        except RemoteError as error:
            self.record_control(Direction.RECEIVED, key, as_failure(error, self.peer_name), salt)
            raise

    def record_control(self, direction: Direction, key: StepKey, message: m.ControlMessage, salt: bytes) -> None:
        """Record a control message, if there is a recorder."""
        if self._recorder is not None:
            self._recorder.record(control_record(direction, self.peer_name, key, message, salt))

    async def close(self) -> None:
        """Close the connection; calls in progress are canceled."""
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


def channel_was_closed() -> bool:
    """Whether a CancelledError that was just caught is the one that gRPC raises when a channel is closed.

    It looks like a cancellation of this task, but nobody requested one.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
