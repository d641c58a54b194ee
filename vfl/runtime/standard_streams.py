"""The standard streams of a process whose terminal, pipe or disk may be gone: writing to stderr never fails."""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO, cast

_STDERR = 2


def secure_standard_streams() -> None:
    """Make stderr a stream that never fails, and open the standard streams that this process was started without.

    Without stderr, the next file that is opened would get its number, and the messages of native libraries with it.
    """
    for number in (0, 1, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stderr = cast(TextIO, UnfailingStream(_STDERR, sys.stderr.encoding if sys.stderr else "utf-8"))


class UnfailingStream(io.TextIOBase):
    """Writes text to a file descriptor at once; what cannot be written is dropped.

    Nothing is buffered: a buffer would be written when the process ends, and that failure would change its exit code.
    """

    def __init__(self, number: int, encoding: str) -> None:
        self._number = number
        self._encoding = encoding

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase declares an attribute
        """See ``io.TextIOBase``."""
        return self._encoding

    def write(self, text: str) -> int:
        """Write all of the text, or as much as possible."""
        left = memoryview(text.encode(self._encoding, "backslashreplace"))
        try:
            while left:
                left = left[os.write(self._number, left) :]
        except OSError:
            return len(text)
        return len(text)

    def writable(self) -> bool:
        """See ``io.IOBase``."""
        return True

    def fileno(self) -> int:
        """See ``io.IOBase``."""
        return self._number

    def isatty(self) -> bool:
        """See ``io.IOBase``."""
        return os.isatty(self._number)
