"""The directory with one party's checkpoints of one run: lists them, puts one in place, removes those not needed.

A checkpoint is written under a temporary name and renamed into place, and renamed again before it is removed. So a
directory with the name of a checkpoint is always complete, however the process was stopped.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vfl.checkpoints.manifest import MANIFEST_FILE, Manifest, read_manifest
from vfl.errors import CheckpointError
from vfl.ids import CheckpointId
from vfl.run_records.rows import KEPT_VOLATILE
from vfl.runtime.durable_files import flush, make_directories, remove_aside, write_file
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.checkpoints")

_PREPARED = ".prepared"
_NAME = re.compile(rf"(\d{{8,18}})-(\d{{1,18}})({re.escape(_PREPARED)})?")
_TOKEN_BYTES = 8


@dataclass(frozen=True)
class Entry:
    """A directory with the name of a checkpoint.

    Attributes:
        prepared: not committed yet.
        manifest: None if it cannot be read; ``problem`` then says why.
        identity: identity of the manifest as found.
    """

    path: Path
    step: int
    attempt: int
    prepared: bool
    manifest: Manifest | None = None
    identity: CheckpointId | None = None
    problem: CheckpointError | None = None

    @property
    def age(self) -> tuple[int, int]:
        """Increases with every new checkpoint; the attempt comes first, as a later one resumes at an earlier step."""
        return self.attempt, self.step

    @property
    def durable(self) -> bool:
        """Whether it was flushed to disk."""
        return self.manifest is not None and self.manifest.durable

    @property
    def is_whole(self) -> bool:
        """Whether its name, its manifest and the size of its state agree."""
        if self.manifest is None or (self.manifest.step, self.manifest.attempt) != (self.step, self.attempt):
            return False
        try:
            return (self.path / self.manifest.state_file).stat().st_size == self.manifest.state_bytes
        except OSError:
            return False


class CheckpointDirectory:
    """One party's checkpoints of one run, as directories.

    Args:
        path: created when the first checkpoint is placed.
        party: the owner; checkpoints of other parties are not touched.
    """

    def __init__(self, path: Path, party: str) -> None:
        self.path = path
        self._party = party
        self._aside_name = re.compile(rf"\.{re.escape(party)}-[0-9a-f]{{{2 * _TOKEN_BYTES}}}")

    def entries(self) -> list[Entry]:
        """All entries, readable or not.

        Raises:
            OSError: the directory cannot be read. A missing directory has no entries.
        """
        return [self._entry(*match.groups()) for name in self._names() if (match := _NAME.fullmatch(name))]

    def _names(self) -> list[str]:
        try:
            return sorted(path.name for path in self.path.iterdir())
        except FileNotFoundError:
            return []

    def _entry(self, step: str, attempt: str, suffix: str | None) -> Entry:
        path = self.path / f"{step}-{attempt}{suffix or ''}"
        entry = Entry(path, int(step), int(attempt), suffix is not None)
        try:
            manifest, identity = read_manifest(path)
        except CheckpointError as error:
            return replace(entry, problem=error)
        return replace(entry, manifest=manifest, identity=identity)

    def place(self, manifest: Manifest, state: bytes) -> None:
        """Add a new checkpoint, prepared; if its manifest says durable, it is flushed to disk before this returns.

        Raises:
            OSError: it cannot be written; in that case nothing of it is left.
        """
        make_directories(self.path)
        self.sweep()
        durable = manifest.durable
        prepared = self.path / (_name(manifest.step, manifest.attempt) + _PREPARED)
        draft = self._aside()
        try:
            draft.mkdir(mode=0o700)
            write_file(draft / manifest.state_file, state, durable=durable)
            write_file(draft / MANIFEST_FILE, manifest.to_bytes(), durable=durable)
            if durable:
                flush(draft)
            remove_aside(prepared, self._aside())
            draft.rename(prepared)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        if durable:
            for directory in (self.path, self.path.parent):
                flush(directory)

    def promote(self, entry: Entry) -> None:
        """Turn a prepared checkpoint into a committed one.

        Raises:
            OSError: it cannot be renamed.
        """
        committed = self.path / _name(entry.step, entry.attempt)
        remove_aside(committed, self._aside())
        entry.path.rename(committed)
        if entry.durable:
            flush(self.path)

    def prune(self, identity: CheckpointId, keep: int) -> None:
        """Remove what ``superseded`` returns. What cannot be removed stays, and a warning is logged."""
        try:
            for entry in superseded([e for e in self.entries() if self._is_own(e)], identity, keep):
                remove_aside(entry.path, self._aside())
        except OSError as error:
            _log.warning("an old checkpoint cannot be removed", reason=str(error))

    def sweep(self) -> None:
        """Remove temporary directories that this party left behind when it was stopped.

        Raises:
            OSError: one cannot be removed.
        """
        for name in self._names():
            if self._aside_name.fullmatch(name):
                shutil.rmtree(self.path / name)

    def _aside(self) -> Path:
        return self.path / f".{self._party}-{secrets.token_hex(_TOKEN_BYTES)}"

    def _is_own(self, entry: Entry) -> bool:
        return entry.manifest is None or entry.manifest.party == self._party


def superseded(entries: Sequence[Entry], identity: CheckpointId, keep: int) -> list[Entry]:
    """Which checkpoints are not needed once ``identity`` is committed everywhere. None of them is newer than it.

    Of the committed checkpoints, the last ``keep`` durable ones are kept, and the last two others that are newer than
    those. Checkpoints of an earlier attempt at a later step do not count: the run went back to before them. A prepared
    checkpoint is not needed, unless it is durable and no durable one has been committed since.
    """
    now = (identity.attempt, identity.step)
    valid = [e for e in entries if not e.prepared and not (e.attempt < identity.attempt and e.step >= identity.step)]
    valid.sort(key=lambda entry: (entry.step, entry.attempt), reverse=True)
    durable = [entry for entry in valid if entry.durable]
    last = durable[0].step if durable else -1
    volatile = [entry for entry in valid if entry.manifest is not None and not entry.durable and entry.step > last]
    kept = durable[:keep] + volatile[:KEPT_VOLATILE]
    since = max((entry.age for entry in durable), default=(-1, -1))
    kept += [entry for entry in entries if entry.prepared and entry.durable and entry.age > since]
    return [entry for entry in entries if entry.age < now and entry not in kept]


def _name(step: int, attempt: int) -> str:
    return f"{step:08d}-{attempt}"
