"""Tells a recorder of everything that crosses, as names, shapes, sizes and a digest, never as content.

The digest is HMAC-SHA-256 under a fresh random salt of each call. The salt travels with the call and is kept nowhere:
sender and receiver write down the same digest, while who reads it later cannot try guesses of a content with few
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
    """Seen from the party that records."""

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
    """One message that left or arrived.

    Attributes:
        bytes: of all tensors; of a control message, of its encoding.
        part: its number where the content is sent piece by piece, else 0.
        digest: of the content, see the module.
        phase: with ``batch``: what a phase call asks for; None for all other messages.
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
    """Writes down what crosses. Called from the event loop, before a message leaves and before one is used."""

    def record(self, crossing: MessageRecord) -> None:
        """Write down one crossing; what it raises stops the message."""


def fresh_salt() -> bytes:
    """The salt of one call."""
    return os.urandom(SALT_BYTES)


def salt_metadata(salt: bytes) -> tuple[tuple[str, bytes], ...]:
    """How a salt travels: as metadata of the gRPC call."""
    return ((_SALT_KEY, salt),)


def received_salt(context: Any) -> bytes:
    """The salt of a call at the server.

    Raises:
        ProtocolError: the caller sent none, so that its log and this one could never be compared.
    """
    salt: bytes | str = dict(context.invocation_metadata() or ()).get(_SALT_KEY, b"")
    if not isinstance(salt, bytes) or len(salt) != SALT_BYTES:
        raise ProtocolError(
            "a call without a salt for the audit log was refused",
            remedy="check that every party runs the same version of vfl",
        )
    return salt


def salted_digest(salt: bytes, kind: str, content_sha256: bytes) -> str:
    """HMAC-SHA-256 under the salt of kind and SHA-256 of the content, in hexadecimal."""
    return hmac.new(salt, kind.encode() + b"\x00" + content_sha256, hashlib.sha256).hexdigest()


def message_sha256(message: Message) -> bytes:
    """SHA-256 of the tensors' bytes as the codec sends them, in their order."""
    content = hashlib.sha256()
    for array in message.tensors().values():
        content.update(wire_bytes(array).data)
    return content.digest()


def data_record(
    direction: Direction, peer: str, address: Address, message: Message, salt: bytes, content_sha256: bytes
) -> MessageRecord:
    """What is recorded of a data message."""
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
    """What is recorded of a control message, a reply or a failure."""
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
    """Job, step and attempt that a control call and its reply belong to; step 0 where there is none."""
    return call.key if isinstance(call, (PhaseCall, Checkpoint)) else StepKey(call.run, _NO_STEP, call.attempt)


def _encoded(message: ControlMessage) -> bytes:
    if isinstance(message, Failure):  # travels as a gRPC status
        return "\x1f".join((message.party, message.code, message.summary, message.remedy)).encode()
    encoded: bytes = to_proto(message).SerializeToString(deterministic=True)
    return encoded
