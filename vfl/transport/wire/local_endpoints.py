"""Endpoints that are unix sockets of this process, where others are ``host:port``: both ends of relayed connections.

They are never in a file or a message, and their paths are shown to nobody but the local operator.
"""

from __future__ import annotations

from pathlib import Path

_SCHEME = "unix:"


def local_endpoint(socket: Path) -> str:
    """What gRPC dials, or listens on, for a socket."""
    return f"{_SCHEME}{socket}"


def socket_of(endpoint: str) -> str | None:
    """The path of the socket that an endpoint is; None if it is ``host:port``."""
    return endpoint.removeprefix(_SCHEME) if endpoint.startswith(_SCHEME) else None


def shown(endpoint: str) -> str:
    """An endpoint in a text that other organizations may see: a local path means nothing to them."""
    return endpoint if socket_of(endpoint) is None else "its relay"
