"""A party's checkpoints on disk: its own part of a run's state, written by all parties in two phases.

Every party writes (the checkpoint is *prepared*), then the coordinator decides, and every party commits (ADR 0022)::

    DIRECTORY/RUN/00000120-0/                  step 120, written in attempt 0, committed
    DIRECTORY/RUN/00000140-0.prepared/         written, not committed here yet
        manifest.json  state.safetensors       or state.safetensors.aesgcm
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from vfl.checkpoints.config import CheckpointConfig
from vfl.checkpoints.directory import CheckpointDirectory, Entry
from vfl.checkpoints.manifest import FORMAT, SALT_BYTES, Manifest
from vfl.checkpoints.state import (
    ENCRYPTION_BYTES,
    damaged,
    decode_state,
    decrypt,
    encode_state,
    encrypt,
    load_key,
)
from vfl.errors import CheckpointError
from vfl.ids import RUN_NAME, CheckpointId
from vfl.job.digests import differing_tables
from vfl.runtime.durable_files import not_writable, read_file
from vfl.runtime.logs import get_logger
from vfl.version import PACKAGE_VERSION

_log = get_logger("vfl.checkpoints")


@dataclass(frozen=True)
class Origin:
    """The run and party that checkpoints belong to.

    Attributes:
        run: name of this run of the job.
        digest: digest of the files that all parties agreed on, see ``vfl.job.digests.job_digest``.
        party: whose part of the state it is.
    """

    run: str
    digest: str
    party: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One party's part of the state of a run.

    Attributes:
        step: the last step that it includes.
        tensors: by name, of any shape.
        facts: texts, for instance JSON.
    """

    step: int
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, str]


class CheckpointStore:
    """One party's checkpoints of one run. May be used from several threads.

    Args:
        config: directory, number to keep, and key.
        origin: the run and party; checkpoints of any other are refused.

    Raises:
        CheckpointError: the name of the run cannot be a directory name.
        ConfigError: a key is configured but cannot be used.
    """

    def __init__(self, config: CheckpointConfig, origin: Origin) -> None:
        if not RUN_NAME.fullmatch(origin.run):
            raise CheckpointError("the name of the run cannot be a directory name", detail=repr(origin.run))
        self._origin = origin
        self._keep = config.keep
        self._key = load_key(config.key_file, config.key_variable)
        self._directory = CheckpointDirectory(config.directory / origin.run, origin.party)
        self._lock = threading.Lock()

    def write(self, snapshot: Snapshot, attempt: int, *, durable: bool) -> CheckpointId:
        """Write a checkpoint; it is prepared, not committed. One prepared for the same step and attempt is replaced.

        Args:
            snapshot: its content.
            attempt: the current attempt.
            durable: flush it to disk before this returns. Otherwise it survives a killed process, but not a power cut.

        Raises:
            CheckpointError: it cannot be written; in that case nothing of it is left.
        """
        manifest, content = self._pack(snapshot, attempt, durable=durable)
        with self._lock:
            self._check_not_shared()
            try:
                self._directory.place(manifest, content)
            except OSError as error:
                raise not_writable(error, "a checkpoint", "checkpoints.directory") from error
        return manifest.identity(manifest.to_bytes())

    def commit(self, identity: CheckpointId) -> None:
        """Commit a prepared checkpoint, and remove those that are no longer needed. Idempotent.

        Raises:
            CheckpointError: this party has no such checkpoint, or cannot rename it.
        """
        with self._lock:
            found = self._find(identity)
            if found.identity != identity:
                raise found.problem or damaged(f"{found.path}: not the manifest to be committed")
            if found.prepared:
                try:
                    self._directory.promote(found)
                except OSError as error:
                    raise not_writable(error, "a checkpoint", "checkpoints.directory") from error
            self._directory.prune(identity, self._keep)

    def held(self) -> tuple[CheckpointId, ...]:
        """Checkpoints of this run, including prepared ones, by step and attempt, newest first.

        Only the sizes of their states are checked; ``load`` reads them.

        Raises:
            CheckpointError: the directory cannot be read.
        """
        found = []
        for entry in self._entries():
            problem = self._problem_of(entry)
            if problem is not None:
                _log.warning("a checkpoint is ignored", reason=problem.summary, detail=problem.detail)
            elif entry.identity is not None:
                found.append(entry.identity)
        return tuple(sorted(found, key=lambda identity: (identity.step, identity.attempt), reverse=True))

    def load(self, identity: CheckpointId) -> Snapshot:
        """Read a checkpoint, prepared or committed; every byte of it is checked against ``identity``.

        Raises:
            CheckpointError: it is missing or damaged; belongs to another run, party or job file; was written by a newer
                vfl; is encrypted with another key, or is not encrypted although a key is configured.
        """
        found = self._find(identity)
        if found.manifest is None:
            raise found.problem or damaged(str(found.path))
        self._check_owner(found.manifest, found.path)
        if found.identity != identity:
            raise damaged(f"{found.path}: not the manifest that was committed")
        self._check_job_files(found.manifest)
        tensors, facts = decode_state(self._read_state(found.path, found.manifest))
        return Snapshot(found.manifest.step, tensors, facts)

    def _pack(self, snapshot: Snapshot, attempt: int, *, durable: bool) -> tuple[Manifest, bytes]:
        content = encode_state(snapshot.tensors, snapshot.facts)
        unsealed = Manifest(
            format=FORMAT,
            run=self._origin.run,
            job_digest=self._origin.digest,
            party=self._origin.party,
            step=snapshot.step,
            attempt=attempt,
            durable=durable,
            encrypted=self._key is not None,
            state_bytes=len(content) + (ENCRYPTION_BYTES if self._key else 0),
            state_sha256=hashlib.sha256().hexdigest(),
            salt=secrets.token_hex(SALT_BYTES),
            version=PACKAGE_VERSION,
        )
        if self._key is not None:
            content = encrypt(self._key, content, unsealed.associated)
        return unsealed.model_copy(update={"state_sha256": hashlib.sha256(content).hexdigest()}), content

    def _read_state(self, path: Path, manifest: Manifest) -> bytes:
        """The decrypted state, with the size and digest that the manifest states."""
        if self._key is None and manifest.encrypted:
            raise CheckpointError(
                "a checkpoint is encrypted and this party has no key",
                detail=str(path),
                remedy="set 'checkpoints.key_file' or 'checkpoints.key_variable' to the key that the run began with",
            )
        if self._key is not None and not manifest.encrypted:
            raise CheckpointError(
                "a checkpoint is not encrypted although this party has a key",
                detail=str(path),
                remedy="remove the key from 'checkpoints' to resume this run, or start a new one",
            )
        try:
            content = read_file(path / manifest.state_file, manifest.state_bytes)
        except FileNotFoundError as error:
            raise damaged(str(error)) from error
        except OSError as error:
            raise _not_readable(error) from error
        if content is None or len(content) != manifest.state_bytes:
            raise damaged(f"{path / manifest.state_file} does not have {manifest.state_bytes} bytes")
        if hashlib.sha256(content).hexdigest() != manifest.state_sha256:
            raise damaged(f"{path / manifest.state_file}: SHA-256 differs from the manifest's")
        return content if self._key is None else decrypt(self._key, content, manifest.associated)

    # --- finding and checking ---

    def _entries(self) -> list[Entry]:
        try:
            return self._directory.entries()
        except OSError as error:
            raise _not_readable(error) from error

    def _problem_of(self, entry: Entry) -> CheckpointError | None:
        """Why a checkpoint cannot be used for this run, as far as is evident without reading its state."""
        if entry.manifest is None:
            return entry.problem or damaged(str(entry.path))
        try:
            self._check_owner(entry.manifest, entry.path)
        except CheckpointError as error:
            return error
        return None if entry.is_whole else damaged(f"{entry.path}: its name or the size of its state is wrong")

    def _find(self, identity: CheckpointId) -> Entry:
        """If a prepared and a committed one have this step and attempt, the one with the right digest."""
        named = [e for e in self._entries() if (e.step, e.attempt) == (identity.step, identity.attempt)]
        if not named:
            raise CheckpointError(
                f"this party has no checkpoint of step {identity.step}, attempt {identity.attempt}",
                detail=str(self._directory.path),
                remedy="restore its 'checkpoints.directory', resume from another checkpoint, or start a new run",
            )
        return next((entry for entry in named if entry.identity == identity), named[0])

    def _check_not_shared(self) -> None:
        for entry in self._entries():
            if entry.manifest is not None and entry.manifest.party != self._origin.party:
                raise CheckpointError(
                    "another party keeps its checkpoints in the same directory",
                    detail=f"{entry.path} belongs to {entry.manifest.party}",
                    remedy="give each party its own 'checkpoints.directory'",
                )

    def _check_owner(self, manifest: Manifest, path: Path) -> None:
        for what, theirs, own in (
            ("run", manifest.run, self._origin.run),
            ("party", manifest.party, self._origin.party),
        ):
            if theirs != own:
                raise CheckpointError(
                    f"a checkpoint belongs to another {what}",
                    detail=f"{path} belongs to {theirs}, not to {own}",
                    remedy="restore the directory that this party wrote in this run",
                )

    def _check_job_files(self, manifest: Manifest) -> None:
        if manifest.job_digest == self._origin.digest:
            return
        differing = ", ".join(differing_tables(self._origin.digest, manifest.job_digest)) or "its tables"
        raise CheckpointError(
            f"the job file or federation file has changed since a checkpoint was written, in: {differing}",
            remedy="restore the files that the run began with, or start a new run",
        )


def _not_readable(error: OSError) -> CheckpointError:
    return CheckpointError(
        "a checkpoint cannot be read",
        detail=str(error),
        remedy="make 'checkpoints.directory' readable for this user",
    )
