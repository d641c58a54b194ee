"""Which connections a server keeps open: those of members, up to a number each, and a few others for a short time.

gRPC accepts connections by itself and limits only their total number. Whoever can reach the port could take all of it,
or all of this process's descriptors, with connections that say nothing. So the descriptors of the process are looked
through often, and connections too many are shut down; gRPC then closes them as if the other side had done so.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import random
import resource
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Set
from typing import NamedTuple
from urllib.parse import unquote

from vfl.runtime.logs import get_logger
from vfl.transport.wire.limits import HANDSHAKE_SECONDS

_log = get_logger(__name__)

MAX_CONNECTIONS_OF_ONE = 32
"""Connections of one member: one or two from each of its jobs, and old ones while certificates are renewed."""
MAX_STRANGERS_OF_ONE = 32
"""Connections without a member's call from one source address, which the members behind a proxy share."""
MAX_STRANGERS = 128
"""The same from all addresses together."""
STRANGER_SECONDS = 2 * HANDSHAKE_SECONDS
"""For the handshake and the first call. Members connect only in order to make a call."""
_MAX_CONNECTIONS = 1024
_QUIET_SECONDS, _BUSY_SECONDS = 0.2, 0.05
"""Pauses between two looks; short while connections are being closed, so that gRPC's limit is not reached between."""
_MAX_SHARE = 0.05
"""Part of the event loop's time that looking may take."""
_REPORT_SECONDS = 5.0
_DESCRIPTORS = "/dev/fd"
_BYTES_RECEIVED = slice(128, 136)
"""Place of ``tcpi_bytes_received`` in Linux's ``struct tcp_info``."""


class Peer(NamedTuple):
    """The other end of a connection."""

    host: str
    port: int

    @property
    def source(self) -> str:
        """What connections are counted by: the address, or the network of 2^64 that one IPv6 host has to itself."""
        return _network(self.host)


@functools.lru_cache(maxsize=1024)
def _network(host: str) -> str:
    address = ipaddress.ip_address(host)
    return str(address) if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


def connection_limit() -> int:
    """How many connections gRPC may accept: half of the descriptors that are free now; the rest is for files."""
    free = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - len(_descriptors())
    return max(1, min(_MAX_CONNECTIONS, free // 2))


class Connections:
    """The incoming connections of one server."""

    def __init__(self) -> None:
        self._since: dict[Peer, float] = {}
        self._members: dict[Peer, str] = {}
        self._closed: Counter[tuple[str, str]] = Counter()
        self._reported = 0.0

    def belongs(self, peer: str, member: str) -> None:
        """Note that a member made a call on the connection that gRPC calls ``peer``."""
        if (known := _parsed(peer)) is not None:
            self._members[known] = member

    async def watch(self, port: int) -> None:
        """Close what is too many on this port, until canceled."""
        while True:
            before = time.thread_time()
            closed = self.look(port)
            self._report()
            used = time.thread_time() - before
            # Looking must not be what slows this party down, however many connections there are to look at.
            await asyncio.sleep(max(_BUSY_SECONDS if closed else _QUIET_SECONDS, used / _MAX_SHARE))

    def look(self, port: int) -> int:
        """Close what is too many on this port now; returns how many connections that were."""
        found, now = dict(_accepted(port)), time.monotonic()
        self._since = {peer: self._since.get(peer, now) for peer in found}
        self._members = {peer: member for peer, member in self._members.items() if peer in found}
        silent = {peer for peer, descriptor in found.items() if peer not in self._members and _is_silent(descriptor)}
        surplus = self._surplus(now, silent)
        for peer, (who, why) in surplus.items():
            _shut(found[peer], peer)
            self._closed[who, why] += 1
        return len(surplus)

    def _surplus(self, now: float, silent: Set[Peer]) -> dict[Peer, tuple[str, str]]:
        of_member, of_source = defaultdict(list), defaultdict(list)
        surplus: dict[Peer, tuple[str, str]] = {}
        for peer, since in sorted(self._since.items(), key=lambda item: item[1]):
            if member := self._members.get(peer):
                of_member[member].append(peer)
            elif now - since > STRANGER_SECONDS:
                surplus[peer] = peer.source, f"no call of a member within {STRANGER_SECONDS:g} s"
            else:
                of_source[peer.source].append(peer)
        for member, peers in of_member.items():
            reason = member, f"more than {MAX_CONNECTIONS_OF_ONE} connections of one member"
            surplus |= dict.fromkeys(peers[MAX_CONNECTIONS_OF_ONE:], reason)
        strangers: list[Peer] = []
        for source, peers in of_source.items():
            _silent_last(peers, silent)
            reason = source, f"more than {MAX_STRANGERS_OF_ONE} connections of one address without a member's call"
            surplus |= dict.fromkeys(peers[MAX_STRANGERS_OF_ONE:], reason)
            strangers += peers[:MAX_STRANGERS_OF_ONE]
        _silent_last(strangers, silent)
        for peer in strangers[MAX_STRANGERS:]:
            surplus[peer] = peer.source, f"more than {MAX_STRANGERS} connections without a member's call"
        return surplus

    def _report(self) -> None:
        now = time.monotonic()
        if self._closed and now - self._reported >= _REPORT_SECONDS:
            (who, why), _ = self._closed.most_common(1)[0]
            _log.warning("connections closed", count=self._closed.total(), most_of=who, reason=why)
            self._closed.clear()
            self._reported = now


def _descriptors() -> list[int]:
    """The open descriptors of this process, that of the listing included; none where the system does not list them."""
    try:
        return [int(name) for name in os.listdir(_DESCRIPTORS)]  # noqa: PTH208  # numbers, not paths
    except OSError:
        return []


def _silent_last(peers: list[Peer], silent: Set[Peer]) -> None:
    """Order those of whom the first may stay: at random, but before those that have said nothing.

    A member that is just connecting has spoken within milliseconds, and then has the same chance as anybody.
    """
    random.shuffle(peers)
    peers.sort(key=silent.__contains__)


def _is_silent(descriptor: int) -> bool:
    """Whether no byte has arrived on a connection; False if the system does not tell."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
            information = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED.stop)
            return len(information) == _BYTES_RECEIVED.stop and not any(information[_BYTES_RECEIVED])
    return False


def _accepted(port: int) -> Iterator[tuple[Peer, int]]:
    """The connections that this process has accepted on a port, and their descriptors."""
    for descriptor in _descriptors():
        with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
            match connection.getsockname():
                case (str(), own, *_) if own == port:
                    yield _peer(*connection.getpeername()[:2]), descriptor


def _shut(descriptor: int, peer: Peer) -> None:
    with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
        if _peer(*connection.getpeername()[:2]) == peer:  # gRPC may have closed it, and the number may be in use again
            connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A descriptor of gRPC as a socket. It stays open; no copy is made, since closing one of a file drops its locks.

    Raises:
        OSError: it is not, or no longer, a socket.
    """
    # Without family and type, Python would ask the system for them, for every descriptor. The family matters here only
    # for the length of addresses, of which those of IPv6 are the longest.
    connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _peer(host: str, port: int) -> Peer:
    return Peer(_plain(host), port)


@functools.lru_cache(maxsize=1024)
def _plain(host: str) -> str:
    """An address without its zone, and of IPv4 if it is one in the form of IPv6."""
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _parsed(peer: str) -> Peer | None:
    """What gRPC's ``context.peer()`` stands for; None if it is no address of the internet, as with unix sockets."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    try:
        return _peer(host.strip("[]"), int(port))
    except ValueError:
        return None
