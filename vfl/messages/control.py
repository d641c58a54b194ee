"""Control messages: what the coordinator and a party say to each other. Names, counts, timings, published metrics.

In every call of a run, ``job`` is the coordinator's ``job_id``: name and digest of job.toml and federation.toml. A
party refuses calls of a job that it does not serve. ``run`` is the name of one execution of the job.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from vfl.ids import Batch, CheckpointId, Phase, Role, Split, StepKey
from vfl.messages.protection import Protection


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """Base of control messages and their replies. They carry no tensor, and nothing that not everybody may read."""

    kind: ClassVar[str]
    protection: ClassVar[Protection] = Protection.PUBLIC


@dataclass(frozen=True, slots=True)
class Prepare(ControlMessage):
    """Coordinator to party: get ready for a job. The digest is that of the coordinator's own job and federation.

    A later attempt of the same job ends the earlier one, wherever that was.
    """

    kind = "prepare"
    job: str
    run: str
    attempt: int
    digest: str
    protocol_version: str


@dataclass(frozen=True, slots=True)
class Prepared(ControlMessage):
    """Party to coordinator: it is the same job here, and the table is loaded. Rows without an id are ``dropped``.

    ``checkpoints`` are those of this job that the party could go back to, newest first.
    """

    kind = "prepared"
    party: str
    role: Role
    rows: int
    dropped: int
    checkpoints: tuple[CheckpointId, ...] = ()


@dataclass(frozen=True, slots=True)
class Restore(ControlMessage):
    """Coordinator to party: go on from this checkpoint, which every party has one of. Comes before ``Align``."""

    kind = "restore"
    job: str
    run: str
    attempt: int
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Restored(ControlMessage):
    """Party to coordinator: the checkpoint is whole and belongs to this job."""

    kind = "restored"
    party: str


@dataclass(frozen=True, slots=True)
class Align(ControlMessage):
    """Coordinator to party: exchange public keys, find the common ids, build the models.

    With ``count_only`` all learn how many ids are common, and nothing else happens. After ``Restore`` the common ids
    are those of the checkpoint.
    """

    kind = "align"
    job: str
    run: str
    attempt: int
    count_only: bool


@dataclass(frozen=True, slots=True)
class Aligned(ControlMessage):
    """Party to coordinator: rows that all parties share, rows of each split, and this party's bottom.

    ``trainable`` is false for a frozen bottom, which then needs no gradient. Where only the common ids were counted,
    there are no splits and no bottom yet.
    """

    kind = "aligned"
    rows: int
    train_rows: int
    validation_rows: int
    test_rows: int
    width: int
    trainable: bool


@dataclass(frozen=True, slots=True)
class Begin(ControlMessage):
    """Coordinator to party: agree on initial interaction weights, or take those of the restored checkpoint.

    ``gradient_receivers`` names the passive parties whose bottoms train.
    """

    kind = "begin"
    job: str
    run: str
    attempt: int
    gradient_receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun(ControlMessage):
    """Party to coordinator: ready for the first batch."""

    kind = "begun"
    party: str


@dataclass(frozen=True, slots=True)
class PhaseCall(ControlMessage):
    """Coordinator to party: do one phase of one step. Idempotent under (key, phase)."""

    kind = "phase_call"
    job: str
    key: StepKey
    phase: Phase
    batch: Batch


@dataclass(frozen=True, slots=True)
class PhaseReport(ControlMessage):
    """Party to coordinator: the phase is done. Metrics are those that the active party publishes, empty elsewhere."""

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
    """Active party to coordinator: published metrics of a split; empty at passive parties."""

    kind = "scored"
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Checkpoint(ControlMessage):
    """Coordinator to party: write down the state after this step. First of two phases, see ``Commit``.

    A ``durable`` one survives a power cut; others survive the end of the process and cost less.
    """

    kind = "checkpoint"
    job: str
    key: StepKey
    durable: bool


@dataclass(frozen=True, slots=True)
class Checkpointed(ControlMessage):
    """Party to coordinator: it is written, and can be gone back to from now on."""

    kind = "checkpointed"
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Commit(ControlMessage):
    """Coordinator to party: all parties have written theirs. Second phase: older checkpoints may go."""

    kind = "commit"
    job: str
    run: str
    attempt: int
    checkpoint: CheckpointId


@dataclass(frozen=True, slots=True)
class Committed(ControlMessage):
    """Party to coordinator: noted."""

    kind = "committed"
    party: str


@dataclass(frozen=True, slots=True)
class Abort(ControlMessage):
    """Either way: the job stops. ``origin`` is the party or coordinator where the reason arose.

    One of an attempt that a later one has replaced is nothing to a party.
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
    """A refusal in place of a reply: the safe part of an error, which travels as a gRPC status. Never the detail."""

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
    """Party to coordinator: saved. Only sums that the party publishes about itself."""

    kind = "finished"
    party: str
    bytes_sent: int
    bytes_received: int
    peak_memory_bytes: int
    certified_lipschitz: float


@dataclass(frozen=True, slots=True)
class Release(ControlMessage):
    """Coordinator to party: all have saved, the job is over."""

    kind = "release"
    job: str
    run: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Released(ControlMessage):
    """Party to coordinator: the job is over here."""

    kind = "released"
    party: str
