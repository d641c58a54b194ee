"""Files and directories that are complete or absent: written to a temporary name, renamed, and flushed on request."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from vfl.errors import CheckpointError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write a new file of mode 0600, flushed to the disk if ``durable``.

    Raises:
        OSError: it exists, or cannot be written completely.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(content)
        while rest:
            rest = rest[os.write(file, rest) :]
        if durable:
            os.fsync(file)
    finally:
        os.close(file)


def flush(path: Path) -> None:
    """Flush the content of a file, or the names in a directory, to the disk.

    Raises:
        OSError: it cannot be flushed.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def read_file(path: Path, bound: int) -> bytes | None:
    """Content of a file of at most ``bound`` bytes; None if it is larger, without reading it.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > bound:
            return None
        return file.read(bound)


def make_directories(path: Path) -> None:
    """Create a directory of mode 0700, and its parents, so that they survive a power cut.

    Raises:
        OSError: one cannot be created.
    """
    absent = [directory for directory in (path, *path.parents) if not directory.exists()]
    for directory in reversed(absent):
        directory.mkdir(mode=0o700, exist_ok=True)
        flush(directory.parent)


def remove_aside(path: Path, aside: Path) -> None:
    """Remove a directory so that it is never seen half removed: renamed to ``aside`` first.

    Raises:
        OSError: it cannot be renamed or removed. A missing directory is not an error.
    """
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside)


def not_writable(error: OSError, what: str, setting: str) -> CheckpointError:
    """The error of a file that could not be written.

    Args:
        error: why.
        what: that was to be written, as the subject of a sentence.
        setting: the configuration key that names its place.
    """
    if error.errno in _FULL:
        return CheckpointError(
            f"{what} cannot be written: the disk is full",
            detail=str(error),
            remedy=f"free disk space, or set '{setting}' to another place",
        )
    return CheckpointError(
        f"{what} cannot be written",
        detail=str(error),
        remedy=f"set '{setting}' to a place that this user may write to",
    )
