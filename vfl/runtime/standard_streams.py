"""The standard streams of a process whose terminal, pipe or disk may be gone or stuck: writing to stderr never fails,
and never waits."""

from __future__ import annotations

import atexit
import io
import os
import select
import stat
import sys
import threading
from collections import deque
from typing import TextIO, cast

_STDERR = 2
MAX_WAITING_BYTES = 1 << 20
"""Bytes that wait for the reader of a pipe or a terminal, before more are dropped."""
LAST_SECONDS = 2.0
"""How long a process that ends waits for that reader."""


def secure_standard_streams() -> None:
    """Make stderr a stream that never fails, and open the standard streams that this process was started without.

    Without stderr, the next file that is opened would get its number, and the messages of native libraries with it.
    """
    for number in (0, 1, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    stream = UnfailingStream(_STDERR, sys.stderr.encoding if sys.stderr else "utf-8")
    sys.stderr = cast(TextIO, stream)
    atexit.register(stream.end)


class UnfailingStream(io.TextIOBase):
    """Writes text to a file descriptor; what cannot be written is dropped.

    A file is written at once. A pipe or a terminal whose reader does not read would block whoever writes, and with it
    the event loop, so a thread writes to these. What does not fit in its queue is dropped, and the number of dropped
    texts is written once there is room again. Python's own buffers are not used: they would be written when the process
    ends, and a failure of that would change its exit code.
    """

    def __init__(self, number: int, encoding: str) -> None:
        self._number = number
        self._encoding = encoding
        self._queue = _Queue(number)

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase declares an attribute
        """See ``io.TextIOBase``."""
        return self._encoding

    def write(self, text: str) -> int:
        """Write all of the text, or as much as possible; or have it written soon. Never waits for a reader."""
        content = text.encode(self._encoding, "backslashreplace")
        if _is_file(self._number):
            _write(self._number, content)
        elif content:
            self._queue.put(content)
        return len(text)

    def end(self) -> None:
        """Wait a little until what was written has been taken, as the process is about to end."""
        self._queue.drain(LAST_SECONDS)

    def writable(self) -> bool:
        """See ``io.IOBase``."""
        return True

    def fileno(self) -> int:
        """See ``io.IOBase``."""
        return self._number

    def isatty(self) -> bool:
        """See ``io.IOBase``."""
        return os.isatty(self._number)


class _Queue:
    """What waits to be written, and the thread that writes it. A process that was forked gets a thread of its own."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._process = 0
        self._ended = False
        self._begin()

    def _begin(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._is_writing = False

    def put(self, content: bytes) -> None:
        """Have something written, or drop it."""
        if self._process != os.getpid():
            self._begin()
            self._process, self._ended = os.getpid(), False
            threading.Thread(target=self._work, name="stderr", daemon=True).start()
        if self._ended:
            _write_what_fits(self._number, content)
            return
        with self._changed:
            if self._bytes + len(content) > MAX_WAITING_BYTES:
                self._dropped += 1
                return
            self._tell_what_was_dropped()
            self._append(content)
            self._changed.notify_all()

    def _tell_what_was_dropped(self) -> None:
        if self._dropped:
            self._append(f"{self._dropped} lines of this log were dropped: nobody read them in time\n".encode())
            self._dropped = 0

    def _append(self, content: bytes) -> None:
        self._waiting.append(content)
        self._bytes += len(content)

    def drain(self, seconds: float) -> None:
        """Wait until everything is written, at most for some seconds; afterward what cannot be written is dropped."""
        if self._process == os.getpid():
            with self._changed:
                self._changed.wait_for(lambda: not self._waiting and not self._is_writing, seconds)
        self._ended = True

    def _work(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                if not self._waiting:
                    self._tell_what_was_dropped()
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting)
                content = b"".join(self._waiting)
                self._waiting.clear()
                self._is_writing = True
            _write(self._number, content)
            with self._changed:
                self._bytes -= len(content)


def _is_file(number: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(number).st_mode)
    except OSError:
        return True  # closed: writing to it fails at once


def _write(number: int, content: bytes) -> None:
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(number, left) :]
    except OSError:
        return


def _write_what_fits(number: int, content: bytes) -> None:
    """For the last words of a process, when its threads may be gone."""
    if len(content) <= select.PIPE_BUF and select.select([], [number], [], 0)[1]:
        _write(number, content)
