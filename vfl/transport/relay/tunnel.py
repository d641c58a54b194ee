"""Both ends of a relayed connection: the caller's, and that of a party that opens no port itself.

Each end has a unix socket: the caller's leads to the relay, the party's is that of its ordinary server. TLS runs from
the caller to that server, so the connection is protected and checked as if it had been dialed directly. Both sockets
are in folders that no other user of the machine can enter: whoever connects to them acts in the name of this process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import grpc.aio

from vfl.configuration.federation import FederationConfig, PartyEntry, parse_endpoint
from vfl.errors import ProtocolError, VflError
from vfl.pki.credentials import Credentials
from vfl.runtime.background import start, start_awaited
from vfl.runtime.logs import get_logger
from vfl.runtime.private.folders import temporary_folder
from vfl.transport.client import RelayClient, channel_was_closed
from vfl.transport.v1 import relay_pb2
from vfl.transport.wire.failures import Call, from_rpc_error, readable
from vfl.transport.wire.limits import MAX_RELAYED_OF_PAIR, RELAYED_PIECE_BYTES
from vfl.transport.wire.local_endpoints import local_endpoint, socket_of

_log = get_logger(__name__)

ACCEPTS_AHEAD = 4
"""Number of connections that a party without a port keeps open in advance for callers."""
_FIRST_RETRY, _LAST_RETRY = 0.2, 5.0
"""Seconds until the next attempt to reach the relay."""
_LAST_BYTES_SECONDS = 5.0
_LOOPBACK = "127.0.0.1"
_SOCKET = "socket"


class Dialed(NamedTuple):
    """What a process dials to reach a party, and the connection to the relay behind it, if there is one."""

    endpoint: str
    relay: RelayClient | None = None


async def dialed(
    stack: AsyncExitStack, federation: FederationConfig, own_name: str, peer: str, credentials: Credentials | None
) -> Dialed:
    """What this process dials to reach a party: its endpoint, or a socket that leads through its relay.

    Args:
        stack: removes that socket.
        own_name: this party, or the coordinator.

    Raises:
        ConfigError: there is no folder for that socket that other users of this machine cannot reach.
    """
    entry = federation.party(peer)
    if entry.via is None or credentials is None:
        return Dialed(entry.endpoint or entry.listen_endpoint)
    relay = _relay_endpoint(federation.party(entry.via), own_name)
    client = await stack.enter_async_context(RelayClient(relay, entry.via, credentials))
    return Dialed(await stack.enter_async_context(_forwarded(client, peer)), client)


def _relay_endpoint(relay: PartyEntry, own_name: str) -> str:
    """The relay's endpoint; the relay itself uses a local one, as its public address may not work from there."""
    public = relay.endpoint or ""
    listen = parse_endpoint(relay.listen_endpoint, lowest_port=0)
    if relay.name != own_name or listen.port == 0:
        return public
    here = {"0.0.0.0": _LOOPBACK, "::": "[::1]"}.get(listen.host)  # noqa: S104  # compared with, not bound
    return f"{here}:{listen.port}" if here else relay.listen_endpoint


@contextlib.asynccontextmanager
async def _forwarded(client: RelayClient, peer: str) -> AsyncIterator[str]:
    """A socket; each connection to it is one to ``peer``."""
    trouble = _Trouble(f"no connection to {peer} through its relay", client)

    is_open = True

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not is_open:  # accepted at the last moment; the client may be closed by now
            writer.close()
            return
        call = None
        try:
            call = await client.connect()
            await call.write(relay_pb2.Piece(open=relay_pb2.Open(party=peer)))
            await _pump(call, reader, writer)
            trouble.is_over()
        except (grpc.aio.AioRpcError, OSError, VflError, asyncio.InvalidStateError) as error:
            trouble.note(error)  # the last one: the relay had ended the call before anything was written
        except asyncio.CancelledError:
            if not channel_was_closed():
                raise
        finally:
            if call is not None:
                call.cancel()
            writer.close()

    with temporary_folder() as folder:
        server = await asyncio.start_unix_server(serve, folder / _SOCKET)
        try:
            yield local_endpoint(folder / _SOCKET)
        finally:
            is_open = False
            server.close()


def listening_endpoint(
    stack: AsyncExitStack, federation: FederationConfig, name: str, credentials: Credentials | None
) -> str:
    """Where a party's own server listens: the address in ``federation.toml``, or a socket behind its relay.

    Args:
        stack: removes that socket.
        name: this party.

    Raises:
        ConfigError: there is no folder for that socket that other users of this machine cannot reach.
    """
    entry = federation.party(name)
    if entry.via is None or credentials is None:
        return entry.listen_endpoint
    return local_endpoint(stack.enter_context(temporary_folder()) / _SOCKET)


@contextlib.asynccontextmanager
async def reachable_through_relay(
    federation: FederationConfig, name: str, listening: str, credentials: Credentials | None
) -> AsyncIterator[None]:
    """Make a party that opens no port reachable through its relay while the context is active; others need nothing.

    Args:
        name: this party.
        listening: where its own server listens, see ``listening_endpoint``; the server must stop before the context
            ends.
    """
    via, socket = federation.party(name).via, socket_of(listening)
    if via is None or credentials is None or socket is None:
        yield
        return
    async with RelayClient(_relay_endpoint(federation.party(via), name), via, credentials) as client:
        outbound = _Outbound(client, socket, len(federation.parties) * MAX_RELAYED_OF_PAIR)
        keepers = [start(outbound.keep()) for _ in range(ACCEPTS_AHEAD)]
        try:
            yield
        finally:
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await outbound.end()


class _Outbound:
    """Connections to the relay that wait for callers of this party, and those that carry one.

    Args:
        client: the connection to the relay.
        socket: path of the socket of this party's server.
        most: connections of all callers together; an honest relay admits no more.
    """

    def __init__(self, client: RelayClient, socket: str, most: int) -> None:
        self._client = client
        self._socket = socket
        self._most = most
        self._carrying: set[asyncio.Task[None]] = set()
        self._trouble = _Trouble("not connected to the relay; retrying", client)

    async def keep(self) -> None:
        """Wait for callers, one after another, until canceled."""
        wait = _FIRST_RETRY
        while True:
            try:
                await self._accept()
                wait = _FIRST_RETRY
            except (grpc.aio.AioRpcError, OSError, VflError) as error:
                self._trouble.note(error)
                await asyncio.sleep(wait)
                wait = min(2 * wait, _LAST_RETRY)
            except asyncio.CancelledError:
                if not channel_was_closed():
                    raise

    async def _accept(self) -> None:
        """Wait for one caller; its connection is carried while this party waits for the next."""
        call = await self._client.accept()
        try:
            # Raises if the relay ends the call instead of opening a connection.
            readable(await call.read(), self._client.peer_name)
            if len(self._carrying) >= self._most:
                raise ProtocolError(
                    f"{self._client.peer_name} relays more than {self._most} connections at once to this party",
                    remedy=f"check that {self._client.peer_name} runs the same version of vfl",
                )
            self._trouble.is_over()
            reader, writer = await asyncio.open_unix_connection(self._socket)
        except BaseException:
            call.cancel()
            raise
        task = start(self._carry(call, reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def end(self) -> None:
        """After the server has stopped, let its last bytes arrive, then drop the connections that are left."""
        if self._carrying:
            await asyncio.wait(self._carrying, timeout=_LAST_BYTES_SECONDS)
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, call: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _pump(call, reader, writer)
        except (grpc.aio.AioRpcError, OSError, ProtocolError) as error:
            _log.info("a connection through the relay was lost", relay=self._client.peer_name, reason=str(error))
        finally:
            call.cancel()
            writer.close()


class _Trouble:
    """Logs trouble with a relay when it begins and when its reason changes, but not at every attempt."""

    def __init__(self, what: str, client: RelayClient) -> None:
        self._what = what
        self._client = client
        self._reason = ""

    def note(self, error: Exception) -> None:
        """Note that an attempt failed."""
        if isinstance(error, grpc.aio.AioRpcError):
            call = Call(self._client.peer_name, self._client.endpoint, "relay connections", 0.0)
            error = from_rpc_error(error, call)
        reason = error.summary if isinstance(error, VflError) else str(error)
        if reason != self._reason:
            _log.warning(self._what, relay=self._client.peer_name, reason=reason)
        self._reason = reason

    def is_over(self) -> None:
        """Note that an attempt succeeded."""
        self._reason = ""


async def _pump(call: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until one side has closed and the other has received what was sent before that.

    Raises:
        ProtocolError: the relay sent something unreadable.
    """

    async def send() -> None:
        with contextlib.suppress(asyncio.InvalidStateError):  # the other side has closed; receive() says why
            while payload := await reader.read(RELAYED_PIECE_BYTES):
                await call.write(relay_pb2.Piece(payload=payload))
            await call.done_writing()

    async def receive() -> None:
        while (piece := await call.read()) is not grpc.aio.EOF:
            writer.write(readable(piece, "the relay").payload)
            await writer.drain()

    sending, receiving = start_awaited(send()), start_awaited(receive())
    try:
        await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
        if sending.done() and not sending.exception():
            await asyncio.wait({receiving}, timeout=_LAST_BYTES_SECONDS)
        for task in (sending, receiving):
            if task.done():
                task.result()
    finally:
        sending.cancel()
        receiving.cancel()
        await asyncio.gather(sending, receiving, return_exceptions=True)
