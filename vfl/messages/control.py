"""Control messages between the coordinator and a party: names, counts, timings, published metrics.

In every call of a run, ``job`` is the coordinator's ``job_id``: name and digest of job.toml and federation.toml. A
party refuses calls for a job that it does not serve. ``run`` is the name of one execution of the job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vfl.ids import Batch, CheckpointId, Phase, Role, Split, StepKey
from vfl.messages.protection import Protection


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """Base class of control messages and their replies. They carry no tensors and nothing confidential."""

    kind: ClassVar[str]
    protection: ClassVar[Protection] = Protection.PUBLIC


@dataclass(frozen=True, slots=True)
class Prepare(ControlMessage):
    """Coordinator to party: get ready for a run. The digest is that of the coordinator's own job and federation.

    A later attempt of the same run ends the earlier one, however far that has come.
    """

    kind = "prepare"
    job: str
    run: str
    attempt: int
    digest: str
    protocol_version: str


@dataclass(frozen=True, slots=True)
class Prepared(ControlMessage):
    """Party to coordinator: the job is the same here, and the table is loaded. ``dropped`` counts rows without an id.

    ``checkpoints`` are those of this run that the party can resume from, newest first.
    """

    kind = "prepared"
    party: str
    role: Role
    rows: int
    dropped: int
    checkpoints: tuple[CheckpointId, ...] = ()


@dataclass(frozen=True, slots=True)
class Restore(ControlMessage):
    """Coordinator to party: resume from this checkpoint of yours. Every party has one for the same step.

    Comes before ``Align``.
    """

    kind = "restore"
    job: str
    run: str
    attempt: int
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Restored(ControlMessage):
    """Party to coordinator: the checkpoint is intact and belongs to this run."""

    kind = "restored"
    party: str


@dataclass(frozen=True, slots=True)
class Align(ControlMessage):
    """Coordinator to party: exchange public keys, find the common ids, build the models.

    With ``count_only``, all learn how many ids they have in common, and nothing else happens. After ``Restore``, the
    common ids are those of the checkpoint.
    """

    kind = "align"
    job: str
    run: str
    attempt: int
    count_only: bool


@dataclass(frozen=True, slots=True)
class Aligned(ControlMessage):
    """Party to coordinator: the number of rows that all parties share, of rows in each split, and its bottom's width.

    If only the common ids were counted, there are no splits and no bottom yet.
    """

    kind = "aligned"
    rows: int
    train_rows: int
    validation_rows: int
    test_rows: int
    width: int

    @property
    def split_rows(self) -> dict[Split, int]:
        """Rows of each split."""
        return {Split.TRAIN: self.train_rows, Split.VALIDATION: self.validation_rows, Split.TEST: self.test_rows}


@dataclass(frozen=True, slots=True)
class Begin(ControlMessage):
    """Coordinator to party: agree on initial interaction weights, or use those of the restored checkpoint."""

    kind = "begin"
    job: str
    run: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Begun(ControlMessage):
    """Party to coordinator: ready for the first batch."""

    kind = "begun"
    party: str


@dataclass(frozen=True, slots=True)
class PhaseCall(ControlMessage):
    """Coordinator to party: do one phase of one step. Idempotent under (key, phase, batch)."""

    kind = "phase_call"
    job: str
    key: StepKey
    phase: Phase
    batch: Batch


@dataclass(frozen=True, slots=True)
class PhaseReport(ControlMessage):
    """Party to coordinator: the phase is done. Only the active party publishes metrics; others leave them empty."""

    kind = "phase_report"
    seconds: float
    bytes_sent: int
    bytes_received: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score(ControlMessage):
    """Coordinator to party: compute the metrics of everything scored since the last call."""

    kind = "score"
    job: str
    run: str
    attempt: int
    split: Split
    epoch: int


@dataclass(frozen=True, slots=True)
class Scored(ControlMessage):
    """Party to coordinator: metrics of a split as the active party publishes them; empty at passive parties."""

    kind = "scored"
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint(ControlMessage):
    """Coordinator to party: save the state after this step. First of two phases, see ``Commit``.

    A ``durable`` checkpoint survives a power failure; others survive only the end of the process, and cost less.
    """

    kind = "checkpoint"
    job: str
    key: StepKey
    durable: bool


@dataclass(frozen=True, slots=True)
class Checkpointed(ControlMessage):
    """Party to coordinator: the checkpoint is written, and the run can resume from it from now on."""

    kind = "checkpointed"
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Commit(ControlMessage):
    """Coordinator to party: all parties have written theirs. Second phase: older checkpoints may be deleted."""

    kind = "commit"
    job: str
    run: str
    attempt: int
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Committed(ControlMessage):
    """Party to coordinator: acknowledged."""

    kind = "committed"
    party: str


@dataclass(frozen=True, slots=True)
class Abort(ControlMessage):
    """Coordinator to party: the run stops. ``origin`` is the party or coordinator where the reason arose.

    A party ignores an abort of an attempt that a later one has replaced.
    """

    kind = "abort"
    job: str
    run: str
    attempt: int
    origin: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failure(ControlMessage):
    """A refusal in place of a reply: the safe part of an error, sent as a gRPC status. Never carries the detail."""

    kind = "failure"
    party: str
    code: str
    summary: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finish(ControlMessage):
    """Coordinator to party: training is over, save your part of the model."""

    kind = "finish"
    job: str
    run: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Finished(ControlMessage):
    """Party to coordinator: saved. Carries only totals that the party publishes about itself."""

    kind = "finished"
    party: str
    bytes_sent: int
    bytes_received: int
    peak_memory_bytes: int
    certified_lipschitz: float


@dataclass(frozen=True, slots=True)
class Release(ControlMessage):
    """Coordinator to party: all parties have saved, the run is over."""

    kind = "release"
    job: str
    run: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Released(ControlMessage):
    """Party to coordinator: the run is over here."""

    kind = "released"
    party: str
