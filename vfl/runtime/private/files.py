"""Folders and files that only this user may read, also below a folder that others can write to."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vfl.runtime.durable_files import make_directories

PRIVATE_FOLDER, PRIVATE_FILE = 0o700, 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PrivateFolder:
    """An open folder of mode 0700. What is written goes into it, even if somebody replaces its path meanwhile."""

    def __init__(self, descriptor: int) -> None:
        self._folder = descriptor

    def replace(self, files: dict[str, bytes]) -> None:
        """Write files of mode 0600; each replaces what had its name, a link too. All are on disk when this returns.

        Raises:
            OSError: they cannot be written; then none is replaced, unless renaming fails.
        """
        drafts = {name: f".{name}.{secrets.token_hex(8)}" for name in files}
        try:
            for name, content in files.items():
                self._write(drafts[name], content)
            for name, draft in drafts.items():
                os.rename(draft, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            os.fsync(self._folder)
        except OSError:
            for draft in drafts.values():
                with suppress(OSError):
                    os.unlink(draft, dir_fd=self._folder)
            raise

    def _write(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, PRIVATE_FILE, dir_fd=self._folder), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def private_folder(path: Path) -> Iterator[PrivateFolder]:
    """A folder, made if it is not there, with mode 0700 whatever it had.

    Raises:
        OSError: it cannot be made, is a symbolic link, or belongs to another user.
    """
    make_directories(path.parent)
    with suppress(FileExistsError):
        path.mkdir(mode=PRIVATE_FOLDER)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if status.st_uid != os.geteuid():
            raise PermissionError(f"{path} belongs to another user, who could read what is written there")
        if status.st_mode & _OTHERS:
            os.fchmod(descriptor, PRIVATE_FOLDER)
        yield PrivateFolder(descriptor)
    finally:
        os.close(descriptor)


def write_report(path: Path, content: str | bytes) -> None:
    """Write a file for this user: mode 0600 if it is new. Devices are written to as they are.

    Raises:
        OSError: it cannot be written.
    """
    with open(path, "wb", opener=_private) as file:  # Path.open takes no opener
        file.write(content.encode() if isinstance(content, str) else content)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, PRIVATE_FILE)


def private_log(path: Path) -> int:
    """A descriptor that appends to a file, mode 0600 if it is new.

    Raises:
        OSError: it cannot be opened.
    """
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
