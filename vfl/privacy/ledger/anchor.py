"""The anchor of a ledger: a small file outside its database that says how far the ledger has got.

A database that was put back from a copy, or replaced by an empty one, does not match the anchor. The anchor also holds
the key under which row ids are stored, so the database alone does not reveal whether a guessed id is in it.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from vfl.privacy.ledger.failures import anchor_damaged, in_use
from vfl.runtime.durable_files import flush, make_directories, read_file, write_file

KEY_BYTES = 32
ID_BYTES = 16
STORED_BYTES = 16
"""Of a keyed hash that stands for a row id, a label or a context."""
BUSY_SECONDS = 30.0
"""How long to wait for another process that charges releases of the same party."""

_FORMAT = 1
_MAX_FILE = 4096
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Anchor:
    """The state that a ledger must be in.

    Attributes:
        ledger: random id of the ledger, in hexadecimal digits.
        key: under which ids, labels and the chain are hashed.
        counter: number of messages that were charged.
        head: of the hash chain over all of them.
    """

    ledger: str
    key: bytes
    counter: int
    head: bytes

    @classmethod
    def fresh(cls) -> Self:
        """The anchor of a new, empty ledger."""
        return cls._start(secrets.token_hex(ID_BYTES), secrets.token_bytes(KEY_BYTES))

    @classmethod
    def _start(cls, ledger: str, key: bytes) -> Self:
        return cls(ledger, key, 0, hmac.digest(key, f"vfl ledger\x1f{ledger}".encode(), "sha256"))

    @property
    def start(self) -> Self:
        """The anchor of the same ledger when it was empty."""
        return self._start(self.ledger, self.key)

    def advanced(self, record: bytes) -> Self:
        """The anchor after another message, of which ``record`` says everything."""
        head = hmac.digest(self.key, b"vfl release\x1f" + self.head + record, "sha256")
        return replace(self, counter=self.counter + 1, head=head)


class KeyedHashes:
    """What the database holds in place of row ids, labels and contexts: truncated HMAC-SHA-256."""

    def __init__(self, key: bytes) -> None:
        self._rows, self._labels, self._contexts = (
            hmac.digest(key, purpose, "sha256") for purpose in (b"row", b"label", b"context")
        )

    def row(self, row_id: bytes | str) -> bytes:
        """Stands for a row; text and its UTF-8 bytes are the same row."""
        content = row_id.encode("utf-8", "surrogatepass") if isinstance(row_id, str) else row_id
        return hmac.digest(self._rows, content, "sha256")[:STORED_BYTES]

    def label(self, row: bytes, label: bytes) -> bytes:
        """Stands for a label of a row."""
        return hmac.digest(self._labels, row + label, "sha256")[:STORED_BYTES]

    def context(self, context: bytes) -> bytes:
        """Stands for what the labels of a message have in common."""
        return hmac.digest(self._contexts, context, "sha256")[:STORED_BYTES]


class AnchorFile:
    """The anchor on disk, mode 0600, replaced as a whole.

    Args:
        path: of the file, in the party's private directory. Beside it are its lock and, briefly, a draft.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep all other processes and ledgers from changing the anchor or the database.

        Raises:
            LedgerError: another process holds it for too long.
            OSError: the lock file cannot be opened.
        """
        make_directories(self.path.parent)
        lock = self.path.with_name(f"{self.path.name}.lock")
        file = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            deadline = time.monotonic() + BUSY_SECONDS
            while not _lock(file):
                if time.monotonic() > deadline:
                    raise in_use(str(lock))
                time.sleep(_POLL_SECONDS)
            yield
        finally:
            os.close(file)

    def read(self) -> Anchor | None:
        """The anchor; None if there is no file.

        Raises:
            LedgerError: the file does not hold an anchor.
            OSError: it cannot be read.
        """
        try:
            content = read_file(self.path, _MAX_FILE)
        except FileNotFoundError:
            return None
        try:
            return _parsed(content or b"")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise anchor_damaged(self.path) from error

    def write(self, anchor: Anchor) -> None:
        """Replace the anchor. It is on the disk when this returns.

        Raises:
            OSError: it cannot be written; the old one is still there.
        """
        content = asdict(anchor) | {"format": _FORMAT, "key": anchor.key.hex(), "head": anchor.head.hex()}
        draft = self.path.with_name(f".{self.path.name}.draft")
        draft.unlink(missing_ok=True)  # left behind by a process that was killed
        try:
            write_file(draft, f"{json.dumps(content, indent=2)}\n".encode(), durable=True)
            draft.rename(self.path)
        except OSError:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise
        flush(self.path.parent)


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _parsed(content: bytes) -> Anchor:
    values = json.loads(content)
    anchor = Anchor(values["ledger"], bytes.fromhex(values["key"]), values["counter"], bytes.fromhex(values["head"]))
    lengths = (len(bytes.fromhex(anchor.ledger)), len(anchor.key), len(anchor.head))
    if values["format"] != _FORMAT or lengths != (ID_BYTES, KEY_BYTES, hashlib.sha256().digest_size):
        raise ValueError("not an anchor")
    if type(anchor.counter) is not int or not 0 <= anchor.counter < 2**63:
        raise ValueError("not a counter")
    return anchor
