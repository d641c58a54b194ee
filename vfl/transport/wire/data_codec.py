"""Converts data messages to chunks and back. Nothing is allocated before the header is checked against the limits.

A message is one header chunk (address; name, element type and shape of every tensor), followed by the bytes of the
tensors in that order, little-endian and row-major, split at any position.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from vfl.configuration.federation import NAME_PATTERN
from vfl.errors import MismatchError, ProtocolError
from vfl.ids import Address, StepKey
from vfl.messages import MESSAGE_TYPES, Array, Message
from vfl.transport.v1 import data_pb2 as pb
from vfl.transport.wire.limits import CHUNK_BYTES

WIRE_VERSION = 1
"""Version of the header; a receiver refuses any other."""

_SAME_VERSION = "check that every party runs the same version of vfl"
_RUN_PATTERN = re.compile(r"[^\s\x00-\x1f\x7f]{1,128}")
_NAME_PATTERN = re.compile(NAME_PATTERN)


def message_bytes(message: Message) -> int:
    """Number of bytes in the tensors of a message."""
    return sum(array.nbytes for array in message.tensors().values())


def encode_header(address: Address, message: Message, *, receiver: str, max_message_bytes: int) -> pb.Header:
    """The header that announces a message.

    Raises:
        ProtocolError: the message is larger than ``max_message_bytes``, or its kind differs from that of the address.
    """
    total = message_bytes(message)
    if total > max_message_bytes:
        raise ProtocolError(
            f"message '{message.kind}' is larger than the limit of {max_message_bytes} bytes",
            remedy="use a smaller batch",
        )
    if message.kind != address.kind:
        raise ProtocolError(f"message '{message.kind}' is addressed as another kind", detail=str(address))
    return pb.Header(
        protocol_version=WIRE_VERSION,
        run=address.key.run,
        step=address.key.step,
        attempt=address.key.attempt,
        kind=address.kind,
        sender=address.sender,
        receiver=receiver,
        tensors=[
            pb.TensorSpec(name=name, dtype=array.dtype.name, shape=array.shape)
            for name, array in message.tensors().items()
        ],
        total_bytes=total,
        part=address.part,
    )


def wire_bytes(array: Array) -> Array:
    """The bytes of a tensor as they are sent, as uint8; a view if the tensor already has that layout."""
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)


def encode_payload(message: Message, chunk_bytes: int = CHUNK_BYTES) -> Iterator[pb.Chunk]:
    """The chunks after the header, created one at a time so that a large message is never copied as a whole."""
    for array in message.tensors().values():
        flat = wire_bytes(array)
        for start in range(0, flat.size, chunk_bytes):
            yield pb.Chunk(payload=flat[start : start + chunk_bytes].tobytes())


def decode_address(header: pb.Header, *, receiver: str) -> Address:
    """The address of a message.

    Raises:
        ProtocolError: the header has another version, the kind is unknown, or a name is malformed.
        MismatchError: the message is for another party.
    """
    if header.protocol_version != WIRE_VERSION:
        raise ProtocolError(
            f"the sender uses wire version {header.protocol_version}, this party version {WIRE_VERSION}",
            remedy=_SAME_VERSION,
        )
    if header.kind not in MESSAGE_TYPES:
        raise ProtocolError(
            "a message of an unknown kind was refused", detail=repr(header.kind[:80]), remedy=_SAME_VERSION
        )
    names_fit = _RUN_PATTERN.fullmatch(header.run) and _NAME_PATTERN.fullmatch(header.sender)
    if not names_fit or min(header.step, header.attempt) < 0:
        raise ProtocolError("a message with a malformed address was refused", remedy=_SAME_VERSION)
    if header.receiver != receiver:
        raise MismatchError(
            f"a message for another party arrived at {receiver}",
            detail=f"it was meant for {header.receiver[:63]!r}",
            remedy="make the endpoints in federation.toml the same at every party",
        )
    return Address(StepKey(header.run, header.step, header.attempt), header.kind, header.sender, header.part)


class MessageDecoder:
    """Receives one message. The arrays of the result are writable and own their memory.

    Args:
        header: as received; its kind must already have been checked (:func:`decode_address`).
        max_message_bytes: largest total that is accepted.

    Raises:
        ProtocolError: the tensors are not those of the message kind, or are larger than allowed.
    """

    def __init__(self, header: pb.Header, *, max_message_bytes: int) -> None:
        self._type = MESSAGE_TYPES[header.kind]
        shapes = self._checked_shapes(header, max_message_bytes)
        self._tensors: dict[str, Array] = {
            spec.name: np.empty(shape, spec.metadata["dtype"].newbyteorder("<"))
            for spec, shape in zip(fields(self._type), shapes, strict=True)
        }
        self._waiting = [flat for a in self._tensors.values() if (flat := a.reshape(-1).view(np.uint8)).size]

    def _checked_shapes(self, header: pb.Header, max_message_bytes: int) -> list[tuple[int, ...]]:
        declared = fields(self._type)
        if len(header.tensors) != len(declared):
            raise self._malformed("has the wrong number of tensors")
        total, shapes = 0, []
        for spec, sent in zip(declared, header.tensors, strict=True):
            dtype, shape = spec.metadata["dtype"], tuple(sent.shape)
            if sent.name != spec.name or sent.dtype != dtype.name or len(shape) != spec.metadata["ndim"]:
                raise self._malformed(f"lacks the expected tensor '{spec.name}', {dtype}, {spec.metadata['ndim']}-d")
            # Zeros count as ones: numpy cannot index a tensor whose other dimensions exceed all memory.
            if min(shape, default=0) < 0 or math.prod(max(n, 1) for n in shape) * dtype.itemsize > max_message_bytes:
                raise self._malformed(f"has a tensor '{spec.name}' whose shape is negative or too large")
            total += math.prod(shape) * dtype.itemsize
            shapes.append(shape)
        if total > max_message_bytes:
            raise self._malformed(f"is larger than the limit of {max_message_bytes} bytes")
        if total != header.total_bytes:
            raise self._malformed("declares a size that differs from that of its tensors")
        return shapes

    def _malformed(self, what: str) -> ProtocolError:
        return ProtocolError(f"message '{self._type.kind}' {what}", remedy=_SAME_VERSION)

    def feed(self, chunk: pb.Chunk) -> None:
        """Process the next chunk.

        Raises:
            ProtocolError: the chunk is no payload, is empty, or holds more than the header declared.
        """
        if chunk.WhichOneof("part") != "payload" or not chunk.payload:
            raise self._malformed("has a chunk without payload")
        payload = np.frombuffer(chunk.payload, np.uint8)
        while payload.size:
            if not self._waiting:
                raise self._malformed("has more bytes than declared")
            target = self._waiting[0]
            count = min(target.size, payload.size)
            target[:count] = payload[:count]
            payload = payload[count:]
            self._waiting[0] = target[count:]
            if count == target.size:
                del self._waiting[0]

    def finish(self) -> Message:
        """The complete message.

        Raises:
            ProtocolError: bytes are missing.
        """
        if self._waiting:
            raise self._malformed("ended before all declared bytes arrived")
        return self._type(
            **{name: a.astype(a.dtype.newbyteorder("="), copy=False) for name, a in self._tensors.items()}
        )
