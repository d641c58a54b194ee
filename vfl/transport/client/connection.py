"""A gRPC connection to one party that proves its identity, follows certificate renewals and explains its failures."""

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
from vfl.errors import DeadlineExceeded, MismatchError, PeerUnreachable, RemoteError, VflError
from vfl.ids import StepKey
from vfl.pki.credentials import Credentials
from vfl.pki.trust import CertificateRefused
from vfl.runtime.background import start
from vfl.transport.client.identity import PROOF_SECONDS, ProvenChannel, open_proven_channel
from vfl.transport.diagnosis.connection_check import explain_connection
from vfl.transport.wire.failures import Call, as_failure, from_rpc_error, readable
from vfl.transport.wire.health import health_service_name
from vfl.transport.wire.limits import channel_options
from vfl.transport.wire.local_endpoints import shown
from vfl.transport.wire.recorder import (
    Direction,
    Recorder,
    control_record,
)

_FIRST_PAUSE, _LAST_PAUSE = 0.1, 1.0
"""Seconds between two attempts to reach a party that does not answer yet."""
_OLD_CHANNEL_GRACE = 3600.0
"""Seconds that calls in progress may still take after a channel was replaced, as when certificates are renewed."""


class Connection:
    """A connection to one party, opened by the first call.

    With certificates, every channel begins with a proof of the party's identity, and one that has lost its connection
    is replaced: no call is made to anybody who has not proved it (``vfl.transport.client.identity``).

    Args:
        endpoint: ``host:port``; may be that of a proxy, since TLS checks the party's server name and not the host. Or a
            socket of this process that leads through a relay.
        peer_name: the party that answers there.
        credentials: this process's certificate and trust; None only with ``insecure-loopback``.
        recorder: receives a record of every message; None if nothing is recorded.
        relay: the connection to the relay that leads to this party; None if it is dialed directly.

    Attributes:
        refused: why whoever answered last did not prove that it is the party; None if it did, or nobody answered.
    """

    def __init__(
        self,
        endpoint: str,
        peer_name: str,
        credentials: Credentials | None,
        recorder: Recorder | None = None,
        relay: Connection | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.peer_name = peer_name
        self._credentials = credentials
        self._recorder = recorder
        self._relay = relay
        self.refused: CertificateRefused | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._proven: ProvenChannel | None = None
        self._insecure: Any = None

    async def channel(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109  # part of the error
        """The channel for the next call. If it was replaced, calls on the old one may finish.

        Raises:
            CertificateRefused: whoever answers did not prove that it is the party.
            DeadlineExceeded: there was no proof within ``timeout`` seconds, or ``PROOF_SECONDS``.
            grpc.aio.AioRpcError: nobody answers, or the party refuses this process.
            VflError: see ``open_proven_channel``.
        """
        if self._credentials is None:
            if self._insecure is None:
                options = channel_options(self.endpoint)
                self._insecure = grpc.aio.insecure_channel(self.endpoint, options=options)
            return self._insecure
        self._credentials.refresh()
        if self._proven is not None and self._proven.is_usable(self._credentials):
            return self._proven.channel
        limit = PROOF_SECONDS if timeout is None else min(timeout, PROOF_SECONDS)
        try:
            async with asyncio.timeout(limit), self._opening:
                return (await self._opened(self._credentials)).channel
        except TimeoutError:
            raise DeadlineExceeded(
                f"{self.peer_name} did not prove its identity at {shown(self.endpoint)} within {limit:g} s",
                remedy=f"check the log of {self.peer_name} and the network to it",
            ) from None

    async def _opened(self, credentials: Credentials) -> ProvenChannel:
        if self._proven is None or not self._proven.is_usable(credentials):
            old, self._proven = self._proven, None
            if old is not None:
                task = start(old.channel.close(_OLD_CHANNEL_GRACE))
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            self.refused = None
            try:
                self._proven = await open_proven_channel(credentials, self.endpoint, self.peer_name)
            except CertificateRefused as error:
                self.refused = error
                raise
        return self._proven

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109  # part of the error
        """Wait at most ``timeout`` seconds until the party answers and is serving.

        Raises:
            PeerUnreachable: it does not; ``detail`` says what happened last.
            MismatchError: another party answers there, or another version of vfl.
            CertificateRefused: whoever answers did not prove that it is the party.
            RemoteError: it does not accept this process's certificate.
        """
        deadline = time.monotonic() + timeout
        last, pause = "nothing answered", _FIRST_PAUSE
        while (left := deadline - time.monotonic()) > 0:
            try:
                if await self._is_serving(left):
                    return
                last = "it answers, but is not serving"
            except DeadlineExceeded:
                pass  # the last try always times out, which says less than the failures before it
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise self._another_party() from None
                self._check_relay()
                if error.code() is grpc.StatusCode.PERMISSION_DENIED:
                    raise from_rpc_error(error, Call(self.peer_name, self.endpoint, "health", timeout)) from None
                if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                    last = f"{error.code().name}: {error.details()}"
            await asyncio.sleep(min(pause, max(deadline - time.monotonic(), 0)))
            pause = min(2 * pause, _LAST_PAUSE)
        raise PeerUnreachable(
            f"{self.peer_name} did not answer at {shown(self.endpoint)} within {timeout:g} s",
            detail=await self._explained(last),
            remedy=f"start {self.peer_name} there; check its endpoint in federation.toml and both sides' certificates",
        )

    async def _is_serving(self, timeout: float) -> bool:  # noqa: ASYNC109  # gRPC ends the call itself
        request = health_pb2.HealthCheckRequest(service=health_service_name(self.peer_name))
        channel = await self.channel(timeout)
        reply = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=timeout)
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
                f"a call to {self.peer_name} was still running long after its connection was replaced, and was ended"
            ) from None
        except grpc.aio.AioRpcError as error:
            known = from_rpc_error(error, Call(self.peer_name, self.endpoint, what, timeout or math.inf))
        if isinstance(known, PeerUnreachable):
            self._check_relay()
            known.detail = await self._explained(known.detail)
        raise known

    def _check_relay(self) -> None:
        """Raise the reason if no connection comes about because the relay did not prove its identity."""
        if self._relay is not None and self._relay.refused is not None:
            raise self._relay.refused

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
        for channel in (self._insecure, self._proven.channel if self._proven else None):
            if channel is not None:
                await channel.close()

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
