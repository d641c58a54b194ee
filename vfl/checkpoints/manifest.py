"""The description stored with a checkpoint: its party, job and step, and the SHA-256 of its state.

The coordinator gets the SHA-256 of a manifest and nothing else from it. The manifest has a random salt, so equal
weights have different digests and guesses of weights cannot be tested.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vfl.checkpoints.state import MAX_STATE_BYTES, damaged
from vfl.errors import CheckpointError
from vfl.ids import CheckpointId
from vfl.runtime.durable_files import read_file

FORMAT = 1
"""Incremented when the files change in a way that older versions of vfl cannot read."""
MANIFEST_FILE = "manifest.json"
SALT_BYTES = 16
MAX_BYTES = 1 << 16

_Natural = Annotated[int, Field(ge=0)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(BaseModel):
    """``manifest.json`` of a checkpoint.

    Attributes:
        run: name of the run.
        job_digest: digest of the files that all parties agreed on, see ``vfl.job.digests.job_digest``.
        durable: flushed to disk before it was reported as written.
        state_sha256: digest of the state file as stored.
        salt: random, hexadecimal.
        version: version of the package that wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    state_name: ClassVar[str] = "state.safetensors"

    format: int
    run: str
    job_digest: str
    party: str
    step: _Natural
    attempt: _Natural
    durable: bool
    encrypted: bool
    state_bytes: Annotated[int, Field(ge=0, le=MAX_STATE_BYTES)]
    state_sha256: _Sha256
    salt: Annotated[str, Field(pattern=rf"^[0-9a-f]{{{2 * SALT_BYTES}}}$")]
    version: str

    def to_bytes(self) -> bytes:
        """The manifest as it is written and hashed."""
        return (json.dumps(self.model_dump(mode="json"), indent=1) + "\n").encode()

    def identity(self, content: bytes) -> CheckpointId:
        """The coordinator's identifier of the checkpoint whose manifest has these bytes."""
        return CheckpointId(self.step, self.attempt, hashlib.sha256(content).hexdigest())

    @property
    def associated(self) -> bytes:
        """Everything except the state's digest: what the encryption of the state is bound to."""
        fields = self.model_dump(mode="json", exclude={"state_sha256"})
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    @property
    def state_file(self) -> str:
        """Name of the state file next to the manifest."""
        return self.state_name + (".aesgcm" if self.encrypted else "")


def read_manifest(directory: Path) -> tuple[Manifest, CheckpointId]:
    """The manifest of a checkpoint, and the identity computed from its bytes.

    Raises:
        CheckpointError: it is missing, damaged, or written by a newer vfl.
    """
    path = directory / MANIFEST_FILE
    try:
        content = read_file(path, MAX_BYTES)
    except FileNotFoundError as error:
        raise damaged(f"{path} is missing") from error
    except OSError as error:
        raise CheckpointError(
            "a checkpoint cannot be read", detail=str(error), remedy="make it readable for this user, or remove it"
        ) from error
    if content is None:
        raise damaged(f"{path} has more than {MAX_BYTES} bytes")
    _check_format(content, path)
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        keys = ", ".join(".".join(map(str, problem["loc"])) or "syntax" for problem in error.errors())
        raise damaged(f"{path}: {keys}") from None
    return manifest, manifest.identity(content)


def _check_format(content: bytes, path: Path) -> None:
    """Checked before anything else: a newer format may look quite different."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise damaged(f"{path} is not JSON") from error
    number = found.get("format") if isinstance(found, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise damaged(f"{path} has no format number")
    if number > FORMAT:
        raise CheckpointError(
            "a checkpoint was written by a newer vfl",
            detail=f"{path} has format {number}, this version reads up to {FORMAT}",
            remedy="install the version of vfl that the run began with",
        )
