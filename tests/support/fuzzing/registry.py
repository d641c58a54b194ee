"""What is fuzzed: a target for each decoder, and the rules that every one of them is held to.

A target is a function that takes bytes and decodes them as production does. It may return, or raise a ``VflError``;
``check`` also refuses an input that makes it allocate more than its length accounts for.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

from vfl.errors import VflError
from vfl.transport.wire.failures import as_failure

MEBIBYTE = 2**20
PER_BYTE = 64
"""Bytes of memory for each byte of input: a byte of a repeated field becomes a Python object, and that a message."""


@dataclass(frozen=True)
class Target:
    """One decoder.

    Attributes:
        name: as the command line knows it.
        decode: the function.
        make_seeds: valid encodings to start from.
        room: bytes that it may allocate at once whatever the input; ``PER_BYTE`` comes on top.
        max_bytes: longest input that is tried.
        examples: how many inputs the tests try.
    """

    name: str
    decode: Callable[[bytes], object]
    make_seeds: Callable[[], Iterable[bytes]]
    room: int
    max_bytes: int
    examples: int

    @cached_property
    def seeds(self) -> list[bytes]:
        """Valid encodings, made once."""
        return list(self.make_seeds())

    def check(self, data: bytes) -> bool:
        """Decode; whether it was accepted. Anything but a VflError passes through, as does ``TooMuchMemory``."""
        if not tracemalloc.is_tracing():
            return _accepted(self.decode, data)
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        accepted = _accepted(self.decode, data)
        used = tracemalloc.get_traced_memory()[1] - before
        if used > self.room + PER_BYTE * len(data):
            raise TooMuchMemory(f"{self.name}: {len(data)} bytes of input made it allocate {used}")
        return accepted


class TooMuchMemory(AssertionError):
    """An input made a decoder allocate more than its length accounts for."""


def _accepted(decode: Callable[[bytes], object], data: bytes) -> bool:
    try:
        decode(data)
    except VflError as error:
        as_failure(error, "bank").summary.encode()  # it has to be fit to cross, whatever it was made from
        str(error).encode(errors="replace")
        return False
    return True


TARGETS: dict[str, Target] = {}
"""Every target by name."""


def fuzz_target(
    seeds: Callable[[], Iterable[bytes]], *, room: int = MEBIBYTE, max_bytes: int = 4096, examples: int = 200
) -> Callable[[Callable[[bytes], object]], Callable[[bytes], object]]:
    """Register a function as a target; its name is that of the function, with hyphens."""

    def register(decode: Callable[[bytes], object]) -> Callable[[bytes], object]:
        name = decode.__name__.replace("_", "-")
        TARGETS[name] = Target(name, decode, seeds, room, max_bytes, examples)
        return decode

    return register
