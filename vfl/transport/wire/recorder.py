"""Records of all messages that cross: names, shapes, sizes and a digest, never content.

The digest is HMAC-SHA-256 under a fresh random salt for each call. The salt is sent with the call and stored nowhere:
sender and receiver record the same digest, but nobody who reads it later can confirm guesses of content that has few
possible values, such as a number of rows.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from vfl.errors import ProtocolError
from vfl.ids import Address, Batch, Phase, StepKey
from vfl.messages import Checkpoint, ControlMessage, Failure, Message, PhaseCall, Protection
from vfl.transport.wire.control_codec import to_proto
from vfl.transport.wire.data_codec import message_bytes, wire_bytes

SALT_BYTES = 32
_SALT_KEY = "vfl-audit-salt-bin"
_NO_STEP = 0


class Direction(StrEnum):
    """Direction of a message, as seen by the party that records it."""

    SENT = "sent"
    RECEIVED = "received"


@dataclass(frozen=True, slots=True)
class TensorForm:
    """Name, element type and shape of a tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """One message that was sent or received.

    Attributes:
        bytes: size of all tensors, or of the encoding of a control message.
        part: number of the part if the content is sent in parts, else 0.
        digest: digest of the content, see the module.
        phase: with ``batch``, what a phase call requests; None for all other messages.
    """

    direction: Direction
    peer: str
    kind: str
    protection: Protection
    key: StepKey
    part: int
    tensors: tuple[TensorForm, ...]
    bytes: int
    digest: str
    phase: Phase | None = None
    batch: Batch | None = None


class Recorder(Protocol):
    """Records messages. Called from the event loop, before a message is sent and before a received one is used."""

    def record(self, crossing: MessageRecord) -> None:
        """Record one message; an exception stops the message."""


def fresh_salt() -> bytes:
    """The salt of one call."""
    return os.urandom(SALT_BYTES)


def salt_metadata(salt: bytes) -> tuple[tuple[str, bytes], ...]:
    """The metadata that carries a salt with a gRPC call."""
    return ((_SALT_KEY, salt),)


def received_salt(context: Any) -> bytes:
    """The salt of a call at the server.

    Raises:
        ProtocolError: the caller sent none, so that its log and this one could not be compared.
    """
    salt: bytes | str = dict(context.invocation_metadata() or ()).get(_SALT_KEY, b"")
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise ProtocolError(
            "a call without a salt for the audit log was refused",
            remedy="check that every party runs the same version of vfl",
        )
    return salt


def salted_digest(salt: bytes, kind: str, content_sha256: bytes) -> str:
    """HMAC-SHA-256 under ``salt`` of the kind and the SHA-256 of the content, in hexadecimal."""
    return hmac.new(salt, kind.encode() + b"\x00" + content_sha256, hashlib.sha256).hexdigest()


def message_sha256(message: Message) -> bytes:
    """SHA-256 of the tensors' bytes, in the order and form in which the codec sends them."""
    content = hashlib.sha256()
    for array in message.tensors().values():
        content.update(wire_bytes(array).data)
    return content.digest()


def data_record(
    direction: Direction, peer: str, address: Address, message: Message, salt: bytes, content_sha256: bytes
) -> MessageRecord:
    """The record of a data message."""
    return MessageRecord(
        direction=direction,
        peer=peer,
        kind=message.kind,
        protection=message.protection,
        key=address.key,
        part=address.part,
        tensors=tuple(TensorForm(name, a.dtype.name, a.shape) for name, a in message.tensors().items()),
        bytes=message_bytes(message),
        digest=salted_digest(salt, message.kind, content_sha256),
    )


def control_record(
    direction: Direction, peer: str, key: StepKey, message: ControlMessage, salt: bytes
) -> MessageRecord:
    """The record of a control message, a reply or a failure."""
    content = _encoded(message)
    asked = message if isinstance(message, PhaseCall) else None
    return MessageRecord(
        direction=direction,
        peer=peer,
        kind=message.kind,
        protection=message.protection,
        key=key,
        part=0,
        tensors=(),
        bytes=len(content),
        digest=salted_digest(salt, message.kind, hashlib.sha256(content).digest()),
        phase=asked.phase if asked else None,
        batch=asked.batch if asked else None,
    )


def call_key(call: Any) -> StepKey:
    """The run, step and attempt that a control call and its reply belong to; step 0 if they belong to no step."""
    return call.key if isinstance(call, (PhaseCall, Checkpoint)) else StepKey(call.run, _NO_STEP, call.attempt)


def _encoded(message: ControlMessage) -> bytes:
    if isinstance(message, Failure):  # travels as a gRPC status
        return "\x1f".join((message.party, message.code, message.summary, message.remedy)).encode()
    encoded: bytes = to_proto(message).SerializeToString(deterministic=True)
    return encoded
