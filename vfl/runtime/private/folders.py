"""Folders that no other user of this machine can enter, for sockets between parts of one process.

A port of loopback is open to every user of the machine. Whoever connects to it acts in the name of this process, or
takes the room of those who may. A socket in a folder with mode 0700 can only be reached by this user.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from vfl.errors import ConfigError

MAX_SOCKET_PATH = 107
"""Bytes of the path of a unix socket on Linux; the system has no room for more."""
_NAME_BYTES = len("/vfl-12345678/") + 8
"""The folder that is created here, and a socket in it."""
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+")
"""Other characters have a meaning in gRPC's names of endpoints."""


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A new folder with mode 0700, removed at the end. Paths of up to 8 more characters fit in the name of a socket.

    It is in ``XDG_RUNTIME_DIR``, the folder for temporary files, or ``/tmp``: the first where no other user could
    rename it and put another in its place.

    Raises:
        ConfigError: there is no such place.
    """
    folder = _created()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _created() -> Path:
    reasons = []
    for place in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")):  # noqa: S108
        if not place:
            continue
        try:
            # Links are followed once, here; what is checked is what is used.
            resolved = Path(place).resolve(strict=True)
            if problem := _problem(resolved):
                reasons.append(f"{place}: {problem}")
                continue
            folder = Path(tempfile.mkdtemp(prefix="vfl-", dir=resolved))  # fails if the name exists, even as a link
            folder.chmod(0o700)  # whatever the umask is
        except OSError as error:
            reasons.append(f"{place}: {error.strerror}")
        else:
            return folder
    raise ConfigError(
        "there is no folder for sockets that other users of this machine cannot reach",
        detail="\n".join(reasons),
        remedy="set XDG_RUNTIME_DIR to a folder of this user with mode 0700, a short path and plain characters, and "
        "give the folders above it the sticky bit or take the right to write from others",
    )


def _problem(place: Path) -> str:
    """Why other users could get at a folder created in a place, or a socket there has no valid name; else empty."""
    if len(str(place)) + _NAME_BYTES > MAX_SOCKET_PATH:
        return f"the path of a socket there would have more than {MAX_SOCKET_PATH} bytes"
    if not _PLAIN.fullmatch(str(place)):
        return "the path has characters other than letters, digits and /._-"
    trusted = {0, os.geteuid(), Path("/").stat().st_uid}  # in a container, the owner of everything need not be 0
    for folder in (place, *place.parents):
        state = folder.stat()
        if state.st_uid not in trusted:
            return f"{folder} belongs to another user"
        if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not state.st_mode & stat.S_ISVTX:
            return f"other users may rename what is in {folder}"
    return ""
