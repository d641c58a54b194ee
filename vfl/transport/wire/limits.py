"""How much a party accepts from others, and how its connections behave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vfl.configuration.federation import parse_endpoint

MEBIBYTE = 2**20
CHUNK_BYTES = MEBIBYTE
"""Payload of one chunk: large enough to amortize a gRPC message, small enough to keep the event loop responsive."""
MAX_GRPC_MESSAGE_BYTES = 4 * MEBIBYTE
MAX_CALLS_OF_ONE = 64
"""Calls of one member at once: at most 32 messages that a party has under way to another, health checks, and the
connections to it that are passed on (``vfl.transport.relay.service``)."""
MAX_CONCURRENT_CALLS = 600
"""Calls of all: more than eight other parties and the coordinator may have, so that none keeps the others out."""

_KEEPALIVE_MS = 5_000
_KEEPALIVE_TIMEOUT_MS = 5_000
"""A connection that carries nothing is noticed within the sum (ADR 0026); shorter interruptions are waited out."""
_HANDSHAKE_MS = 5_000
"""For TCP and TLS together: a link with a delay of 200 ms each way needs 1.2 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers can make a party store.

    Args:
        max_message_bytes: tensors of one message.
        inbox_bytes: all messages that wait or are being received.
        inbox_messages: the same as a count, for messages without content take room, too.
        held_bytes: of those, messages of jobs that this party has not opened yet.
        held_messages: the same as a count.
        steps_ahead: how far ahead of this party's step a message may be.
        stall_seconds: how long a message that has begun may pause.
    """

    max_message_bytes: int = 256 * MEBIBYTE
    inbox_bytes: int = 1024 * MEBIBYTE
    inbox_messages: int = 1 << 15
    held_bytes: int = 64 * MEBIBYTE
    held_messages: int = 256
    steps_ahead: int = 1
    stall_seconds: float = 60.0


_SIZES: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", MAX_GRPC_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_GRPC_MESSAGE_BYTES),
]
_KEEPALIVE: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    # gRPC measures bandwidth by pings, too; one that is lost holds keepalive up for this long, a minute by default.
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),  # firewalls forget connections that are silent
    ("grpc.http2.max_pings_without_data", 0),  # no bound, or pings stop after two while a party computes
]


def server_options() -> list[tuple[str, Any]]:
    """gRPC options of a party's server."""
    return [
        *_SIZES,
        ("grpc.so_reuseport", 0),  # otherwise two processes share a port silently
        *_KEEPALIVE,
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
    ]


def channel_options(endpoint: str) -> list[tuple[str, Any]]:
    """gRPC options of a connection to ``endpoint``."""
    return [
        *_SIZES,
        ("grpc.enable_retries", 0),  # a repeated step needs a new attempt, which only the coordinator can give
        *_KEEPALIVE,
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", _HANDSHAKE_MS),  # gRPC's name for the time that one attempt may take
        ("grpc.max_reconnect_backoff_ms", 1_000),  # a party that comes back is wanted at once
        ("grpc.enable_http_proxy", int(not parse_endpoint(endpoint).is_loopback)),
    ]
