"""A server that is not a party: it answers each call with whatever bytes a test gives it, or passes it on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from vfl.configuration.federation import TlsFiles

PROVE = "/vfl.transport.v1.Identity/Prove"


class Middleman(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Answers every method with one message.

    Args:
        answer: the reply to the method's name and the request, both as they are on the wire.

    Attributes:
        heard: the methods that were called.
    """

    def __init__(self, answer: Callable[[str, bytes], Awaitable[bytes]]) -> None:
        self._answer = answer
        self.heard: list[str] = []

    def service(self, details: Any) -> Any:
        method = details.method
        self.heard.append(method)

        async def answer(request: bytes, _: Any) -> bytes:
            return await self._answer(method, request)

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def answering(middleman: Middleman, files: TlsFiles, port: int = 0) -> AsyncIterator[str]:
    """Serve with these files; gives the endpoint."""
    pair = files.key.read_bytes(), files.certificate.read_bytes()
    credentials = grpc.ssl_server_credentials([pair], files.ca.read_bytes(), require_client_auth=True)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((middleman,))
    bound = server.add_secure_port(f"127.0.0.1:{port}", credentials)
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(0)
