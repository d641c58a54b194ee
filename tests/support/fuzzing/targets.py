"""All targets. A new one is a function under ``fuzz_target`` in one of these modules."""

from support.fuzzing.decoders import (
    certificates,
    ciphertexts,
    connections,
    exchanges,
    files,
    messages,
    recovery,
    replies,
    tables,
)
from support.fuzzing.registry import TARGETS

__all__ = [
    "TARGETS",
    "certificates",
    "ciphertexts",
    "connections",
    "exchanges",
    "files",
    "messages",
    "recovery",
    "replies",
    "tables",
]
