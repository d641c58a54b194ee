"""Inputs with structure: several pieces in one input, and a short recipe of changes to a long valid encoding."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum

_LENGTH = struct.Struct("<H")
_CHANGE = struct.Struct("<BIB")


class Change(IntEnum):
    """What a recipe does at a place."""

    OVERWRITE = 0
    CUT = 1
    REPEAT = 2
    INSERT = 3
    FILL = 4


def framed(pieces: Iterable[bytes]) -> bytes:
    """Several pieces as one input: each behind its length, two bytes."""
    return b"".join(_LENGTH.pack(len(piece)) + piece for piece in pieces)


def frames(data: bytes) -> Iterator[bytes]:
    """The pieces of any input; the last one may be shorter than it says."""
    at = 0
    while at + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        yield data[at : at + size]
        at += size


def frame(data: bytes, count: int) -> list[bytes]:
    """Exactly so many pieces, empty where the input has none."""
    found = list(frames(data))[:count]
    return found + [b""] * (count - len(found))


def edited(original: bytes, recipe: bytes) -> bytes:
    """A long valid encoding after the changes of a recipe: six bytes each, what, where and with which byte."""
    content = bytearray(original)
    for what, at, value in _CHANGE.iter_unpack(recipe[: len(recipe) // _CHANGE.size * _CHANGE.size]):
        at %= len(content) + 1
        match Change(what % len(Change)):
            case Change.OVERWRITE:
                content[at : at + 1] = bytes((value,)) * len(content[at : at + 1])
            case Change.CUT:
                del content[at:]
            case Change.REPEAT:
                content[at:at] = content[at : at + value]
            case Change.INSERT:
                content[at:at] = bytes((value,))
            case Change.FILL:
                content[at : at + 8] = bytes((value,)) * len(content[at : at + 8])
    return bytes(content)


def step(what: Change, at: int = 0, value: int = 0) -> bytes:
    """One change of a recipe."""
    return _CHANGE.pack(what, at, value)


RECIPES = (
    b"",
    step(Change.OVERWRITE, 40, 1),
    step(Change.CUT, 100),
    step(Change.REPEAT, 64, 64),
    step(Change.INSERT, 3, 7),
    step(Change.FILL, 4096, 255),
)
"""Recipes to start from."""
