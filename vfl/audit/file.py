"""An audit log on disk: whole records only. What a full disk or the end of a process cut off is removed, and logged."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from vfl.audit.log import MAX_LINE_BYTES
from vfl.errors import AuditError
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.audit")


class LogFile:
    """A new file, readable by its owner only, to which lines are appended. Locked while it is open.

    Raises:
        FileExistsError: it exists.
        OSError: it cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._bytes = 0
        self._whole = True
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def append(self, line: bytes) -> None:
        """Write a line. If this raises, the file ends with the line before it.

        Raises:
            AuditError: not all of it can be written.
        """
        try:
            self._cut()
            self._whole = False
            written = os.write(self._file, line)
        except OSError as error:
            self._try_to_cut()
            raise not_writable(str(error)) from error
        if written != len(line):
            self._try_to_cut()
            raise not_writable("the disk is full")
        self._bytes += written
        self._whole = True

    def _cut(self) -> None:
        """Remove the part of a line that was written before the disk was full."""
        if not self._whole:
            os.ftruncate(self._file, self._bytes)
            self._whole = True

    def _try_to_cut(self) -> None:
        with contextlib.suppress(OSError):  # then the next line tries again, or the log is read as cut off
            self._cut()

    def sync(self) -> None:
        """Return once everything is on disk.

        Raises:
            AuditError: it cannot be written.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise not_writable(str(error)) from error

    def close(self) -> None:
        """Close the file; one without any record is removed."""
        if not self._bytes:
            with contextlib.suppress(OSError):
                self.path.unlink()
        os.close(self._file)


def drop_cut_record(path: Path) -> None:
    """Remove the incomplete last record of an earlier log, and log that. A log that is still written is left alone."""
    try:
        with os.fdopen(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - MAX_LINE_BYTES))
            cut = size - (start + file.read().rfind(b"\n") + 1)
            if 0 < cut < MAX_LINE_BYTES:
                file.truncate(size - cut)
                os.fsync(file)
                _log.warning("the incomplete last record of an audit log was removed", file=str(path), bytes=cut)
    except OSError as error:
        _log.debug("an earlier audit log was not checked", file=str(path), reason=str(error))


def not_writable(detail: str) -> AuditError:
    """The error for a log that cannot be written."""
    return AuditError(
        "the audit log cannot be written",
        detail=detail,
        remedy="make 'audit.directory' writable, and free disk space",
    )
