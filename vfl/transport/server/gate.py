"""What every call passes before its method runs: who calls, how many calls that caller has, and its one message."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Set
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from vfl.errors import ProtocolError, VflError
from vfl.transport.access import Access
from vfl.transport.server.connections import Connections
from vfl.transport.wire.failures import abort_call
from vfl.transport.wire.limits import MAX_CALLS_OF_ONE, MAX_CALLS_WITHOUT_TLS, REQUEST_SECONDS

_VERSION = "check that every party runs the same version of vfl"

Messages = AsyncIterator[Any]
Single = Callable[[Any, Any], Awaitable[Any]]
Streaming = Callable[[Any, Any], AsyncGenerator[Any, None]]


class _Kind(NamedTuple):
    """What the gate needs to know about a method: whether a call carries one message, and whether calls count."""

    one_message: bool
    counted: bool


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Requires a member's certificate on every call to every service, including health and reflection.

    No member may have more than ``MAX_CALLS_OF_ONE`` calls at once. A call is checked and counted when its headers have
    arrived. gRPC itself would first wait for the message of a call that carries one, for as long as the caller likes.
    So such methods are registered as taking a stream, which looks the same on the wire, and the message is read here.

    Args:
        access: who may call.
        connections: learns whose each connection is.
        party: name of this party.
        not_counted: methods with limits of their own, whose calls do not count here.
        request_seconds: how long a caller may take to send the message of a call that carries one.
    """

    def __init__(
        self,
        access: Access,
        connections: Connections,
        party: str,
        not_counted: Set[str] = frozenset(),
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._access = access
        self._connections = connections
        self._party = party
        self._not_counted = not_counted
        self._request_seconds = request_seconds
        self._calls: Counter[str | None] = Counter()

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """See ``grpc.aio.ServerInterceptor``."""
        handler = await continuation(details)
        if handler is None:
            return None
        fields = dict.fromkeys(("unary_unary", "unary_stream", "stream_unary", "stream_stream"))
        field = "_".join("stream" if s else "unary" for s in (handler.request_streaming, handler.response_streaming))
        method = getattr(handler, field)
        # A method that streams replies is either a generator or writes them to the context itself.
        wrap = self._streaming if inspect.isasyncgenfunction(method) else self._single
        kind = _Kind(one_message=not handler.request_streaming, counted=details.method not in self._not_counted)
        fields[field.replace("unary_", "stream_", 1)] = wrap(method, kind)
        return handler._replace(request_streaming=True, **fields)

    def _single(self, method: Single, kind: _Kind) -> Single:
        async def guarded(messages: Messages, context: Any) -> Any:
            return await method(await self._admitted(messages, context, kind), context)

        return guarded

    def _streaming(self, method: Streaming, kind: _Kind) -> Callable[[Messages, Any], Messages]:
        async def guarded(messages: Messages, context: Any) -> Messages:
            request = await self._admitted(messages, context, kind)
            async with aclosing(method(request, context)) as replies:
                async for reply in replies:
                    yield reply

        return guarded

    async def _admitted(self, messages: Messages, context: Any, kind: _Kind) -> Any:
        """The request to call a method with, once the caller is known and counted."""
        try:
            caller = self._access.require_caller(context, "any call")
            if caller is not None:
                self._connections.belongs(context.peer(), caller)
            if kind.counted:
                self._count(caller)
            return await self._read(messages, caller) if kind.one_message else messages
        except VflError as error:
            return await abort_call(context, error, self._party)

    def _count(self, caller: str | None) -> None:
        """Count a call until gRPC is done with it, which includes sending the reply to a caller that may not read it.

        Raises:
            ProtocolError: the caller has too many calls already.
        """
        most, who = (MAX_CALLS_WITHOUT_TLS, "callers") if caller is None else (MAX_CALLS_OF_ONE, caller)
        if self._calls[caller] >= most:
            raise ProtocolError(
                f"{who} already {'have' if caller is None else 'has'} {most} calls in progress at {self._party}, "
                "the most allowed",
                remedy=f"find out why calls from {who} do not end",
            )
        task = asyncio.current_task()
        if task is not None:  # gRPC runs each call as a task
            self._calls[caller] += 1
            task.add_done_callback(lambda _: self._calls.subtract([caller]))

    async def _read(self, messages: Messages, caller: str | None) -> Any:
        whose = f"a call of {caller or 'an unknown caller'}"
        try:
            async with asyncio.timeout(self._request_seconds):
                return await anext(aiter(messages))
        except StopAsyncIteration:
            raise ProtocolError(f"{whose} without a message was refused", remedy=_VERSION) from None
        except DecodeError:
            raise ProtocolError(f"{whose} with an unreadable message was refused", remedy=_VERSION) from None
        except TimeoutError:
            raise ProtocolError(
                f"{whose} sent no message within {self._request_seconds:g} s",
                remedy="check the connection of the caller",
            ) from None
