"""Text from elsewhere on its way to a terminal or a log: other organizations, certificates, files.

Control characters and terminal escapes could recolor, move or erase what is shown; line breaks could forge further
lines; bidirectional overrides could reverse their meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_CHARACTERS = 500
"""Limit for a text of another party: gRPC allows 8 KiB for the metadata of a call, and UTF-8 takes up to four bytes."""

_ANY_LENGTH = 1 << 20


def printable(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text as one line of bounded length that cannot control a terminal or forge a line in a log."""
    return "".join(c if c.isprintable() else " " for c in text[:limit]).encode(errors="replace").decode()


def printable_lines(text: str) -> str:
    """A text of this process with the line breaks that it was composed of, each line made printable."""
    return "\n".join(printable(line, _ANY_LENGTH) for line in text.split("\n"))


def printable_fields(value: Any) -> Any:
    """A value with all text in it made printable: names and values of mappings, items of lists and tuples."""
    match value:
        case str():
            return printable(value, _ANY_LENGTH)
        case Mapping():
            return {printable_fields(name): printable_fields(each) for name, each in value.items()}
        case list() | tuple():
            return [printable_fields(each) for each in value]
        case _:
            return value
