"""Which revocation lists a member has seen, on its own disk, so that a restart does not bring an older one back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vfl.errors import ConfigError
from vfl.pki.revocation import Mark, Marks
from vfl.runtime.durable_files import make_directories, read_file, replace_file
from vfl.runtime.logs import get_logger

_log = get_logger(__name__)

FILE_NAME = "revocation_lists"
"""In the folder of a party's private seed, or of the coordinator's record of runs."""
_FORMAT = 1
_MAX_BYTES = 1 << 18
_KEY_DIGITS = 64


class NewestLists:
    """The number of the newest list of each CA that this member has used, in a file of mode 0600.

    It protects from mistakes and from lists that somebody puts back: whoever can change this file, too, can hide that.

    Args:
        path: of the file; made when there is something to remember.
        changes: False for a command that only looks.
    """

    def __init__(self, path: Path, *, changes: bool = True) -> None:
        self.path = path
        self._changes = changes
        self._failed = False

    def read(self) -> dict[str, Mark]:
        """What is remembered; nothing if there is no file.

        Raises:
            ConfigError: the file cannot be read, or holds something else.
        """
        try:
            content = read_file(self.path, _MAX_BYTES)
            if content is None:
                raise ValueError(f"longer than {_MAX_BYTES} bytes")
            return _parsed(content)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigError(
                "the file that remembers revocation lists cannot be used",
                detail=f"{self.path}: {type(error).__name__}: {error}",
                remedy="make it readable, or restore it; if it is lost, compare tls.revoked with what the CA says is "
                "its latest list, then remove the file",
            ) from None

    def remember(self, marks: Marks) -> None:
        """Replace what is remembered. If that fails, this is logged once: the running process still knows."""
        if not self._changes or not marks:
            return
        content = {"format": _FORMAT, "lists": {key: asdict(mark) for key, mark in sorted(marks.items())}}
        try:
            make_directories(self.path.parent)
            replace_file(self.path, f"{json.dumps(content, indent=2)}\n".encode())
        except OSError as error:
            if not self._failed:
                self._failed = True
                _log.warning(
                    "revocation lists cannot be remembered: after a restart an older one is not noticed",
                    file=str(self.path),
                    reason=str(error),
                )


def _parsed(content: bytes) -> dict[str, Mark]:
    values: Any = json.loads(content)
    if values["format"] != _FORMAT:
        raise ValueError("written by a newer version of vfl")
    return {_checked_key(key): _checked_mark(**value) for key, value in values["lists"].items()}


def _checked_key(key: str) -> str:
    if len(bytes.fromhex(key)) * 2 != _KEY_DIGITS:
        raise ValueError("not the digest of a CA")
    return key


def _checked_mark(number: int, digest: str, issuer: str) -> Mark:
    if type(number) is not int or number < 0 or not isinstance(issuer, str):
        raise ValueError("not the number of a list")
    return Mark(number, _checked_key(digest), issuer)
