"""Files and directories that are either complete or absent: written under a temporary name, renamed, and flushed on
request."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from vfl.errors import CheckpointError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def write_file(path: Path, content: bytes, *, durable: bool) -> None:
    """Write a new file with mode 0600, and flush it to disk if ``durable``.

    Raises:
        OSError: the file exists or cannot be written completely.
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


def replace_file(path: Path, content: bytes) -> None:
    """Write a file with mode 0600, durably and as a whole: it has the old content or the new one, whatever happens.

    Raises:
        OSError: it cannot be written; then the old content is still there, unless only the directory was not flushed.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        write_file(draft, content, durable=True)
        draft.rename(path)
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
    flush(path.parent)


def flush(path: Path) -> None:
    """Flush the content of a file, or the entries of a directory, to disk.

    Raises:
        OSError: it cannot be flushed.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def read_file(path: Path, bound: int) -> bytes | None:
    """The content of a file of at most ``bound`` bytes. Returns None for a larger file, without reading it.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size > bound:
            return None
        return file.read(bound)


def make_directories(path: Path) -> None:
    """Create a directory with mode 0700, and its parents, such that they survive a power failure.

    Raises:
        OSError: a directory cannot be created.
    """
    absent = [directory for directory in (path, *path.parents) if not directory.exists()]
    for directory in reversed(absent):
        directory.mkdir(mode=0o700, exist_ok=True)
        flush(directory.parent)


def remove_aside(path: Path, aside: Path) -> None:
    """Rename a directory to ``aside``, then remove it, so that nobody sees it partially removed.

    Raises:
        OSError: the directory cannot be renamed or removed. A missing directory is not an error.
    """
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    shutil.rmtree(aside)


def is_disk_full(error: OSError) -> bool:
    """Whether a file could not be written for lack of space."""
    return error.errno in _FULL


def not_writable(error: OSError, what: str, setting: str) -> CheckpointError:
    """The error for a file that could not be written.

    Args:
        error: why it could not be written.
        what: what should have been written, as the subject of a sentence.
        setting: the configuration key for its location.
    """
    if is_disk_full(error):
        return CheckpointError(
            f"{what} cannot be written: the disk is full",
            detail=str(error),
            remedy=f"free disk space, or set '{setting}' to another location",
        )
    return CheckpointError(
        f"{what} cannot be written",
        detail=str(error),
        remedy=f"set '{setting}' to a location that this user can write to",
    )
