"""How much a party accepts from others, and how its connections behave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vfl.configuration.federation import parse_endpoint
from vfl.transport.wire.local_endpoints import socket_of

MEBIBYTE = 2**20
CHUNK_BYTES = MEBIBYTE
"""Payload of one chunk: large enough to amortize a gRPC message, small enough to keep the event loop responsive."""
MAX_GRPC_MESSAGE_BYTES = 4 * MEBIBYTE
MAX_CALLS_OF_ONE = 64
"""Concurrent calls of one member: at most 32 messages in transit from one party to another, and health checks. Relayed
connections are not calls and have limits of their own."""
MAX_RELAYED_OF_PAIR = 16
"""Connections of one caller through a relay to one party: one or two from each of its jobs, and old ones while
certificates are renewed."""
MAX_RELAYED_WAITING = 16
"""Connections that a party behind a relay keeps open in advance for callers."""
RELAYED_PIECE_BYTES = MEBIBYTE // 4
"""Most bytes of a relayed connection in one gRPC message; a relay keeps some of them for each side."""
MAX_CALLS_WITHOUT_TLS = 600
"""Concurrent calls of all callers together where nobody can tell them apart."""
MAX_STREAMS_OF_A_CONNECTION = 4 * MAX_CALLS_OF_ONE
"""Concurrent calls on one connection, whoever opened it; refused calls count until the caller has read the refusal. A
party behind a relay has its calls and up to 160 relayed connections on the same one: 16 of each of nine other members,
and 16 in advance."""
REQUEST_SECONDS = 30.0
"""How long a call that carries one message may take to send it. Its headers and the message travel together."""

_KEEPALIVE_MS = 5_000
_KEEPALIVE_TIMEOUT_MS = 5_000
"""A dead connection is noticed within the sum of the two (ADR 0026); shorter interruptions are tolerated."""
HANDSHAKE_SECONDS = 5.0
"""For TCP and TLS together; a link with a delay of 200 ms each way needs 1.2 s."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what peers can make a party store.

    Args:
        max_message_bytes: size of the tensors of one message.
        inbox_bytes: total size of messages that wait or are being received.
        inbox_messages: the same as a count, since messages without content take room too.
        held_bytes: the part of ``inbox_bytes`` for messages of runs that this party has not opened yet.
        held_messages: the same as a count.
        steps_ahead: how many steps a message may be ahead of this party.
        stall_seconds: how long a message may pause while it is being received.
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
    # gRPC also pings to measure bandwidth; a lost ping delays keepalive by this timeout, a minute by default.
    ("grpc.http2.ping_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),  # firewalls drop idle connections
    ("grpc.http2.max_pings_without_data", 0),  # no limit; by default pings stop after two while a party computes
]


def server_options(max_connections: int) -> list[tuple[str, Any]]:
    """gRPC options of a party's server, which closes connections beyond ``max_connections`` as soon as they come."""
    return [
        *_SIZES,
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.server_handshake_timeout_ms", int(1000 * HANDSHAKE_SECONDS)),  # two minutes by default
        ("grpc.max_concurrent_streams", MAX_STREAMS_OF_A_CONNECTION),
        ("grpc.so_reuseport", 0),  # otherwise two processes could silently share a port
        *_KEEPALIVE,
        ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MS // 2),
    ]


def channel_options(endpoint: str) -> list[tuple[str, Any]]:
    """gRPC options of a connection to ``endpoint``."""
    is_local = socket_of(endpoint) is not None or parse_endpoint(endpoint).is_loopback
    return [
        *_SIZES,
        ("grpc.enable_retries", 0),  # a repeated step needs a new attempt, which only the coordinator can give
        *_KEEPALIVE,
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", int(1000 * HANDSHAKE_SECONDS)),  # gRPC's name for the timeout of one attempt
        ("grpc.max_reconnect_backoff_ms", 1_000),  # reconnect soon after a party comes back
        ("grpc.enable_http_proxy", int(not is_local)),
    ]
