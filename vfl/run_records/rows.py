"""What the coordinator's record of its runs consists of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from vfl.ids import CheckpointId

KEPT_VOLATILE = 2
"""Checkpoints that are kept, here and by parties, although a power cut may take them: newer than the last durable."""

KEPT_DURABLE = 32
"""Checkpoints that survive a power cut which are kept here; parties keep ``checkpoints.keep``, three by default."""

Row = tuple[Any, ...]
"""One row of a table of the record."""


class RunState(StrEnum):
    """How it stands with a run. One that says RUNNING may have been killed."""

    RUNNING = "running"
    SAVED = "saved"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True)
class RunRecord:
    """One run of a job.

    Attributes:
        run: its name.
        digest: of the files that all parties agreed on.
        job_file: path of job.toml at the coordinator.
        attempt: the last one that began; -1 before the first.
        step: the last one that all parties have a checkpoint of; 0 before the first.
        started: seconds since 1970; ``updated`` likewise, when this record changed last.
        error: why it failed or stopped, in words.
    """

    run: str
    job: str
    federation: str
    digest: str
    job_file: str
    state: RunState
    attempt: int
    step: int
    started: float
    updated: float
    error: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """The record in a row of table ``runs``.

        Raises:
            ValueError: the row is none that vfl wrote.
        """
        run, job, federation, digest, job_file, state, *rest = row
        return cls(run, job, federation, digest, job_file, RunState(state), *rest)


@dataclass(frozen=True)
class StepRecord:
    """One step that was done: what it worked on, and what came of it.

    Attributes:
        split: of which rows; ``epoch`` and ``batch`` say which of these.
        loss: mean over the rows; none in evaluation.
        seconds: how long it took.
        bytes_sent: by all parties.
    """

    step: int
    attempt: int
    split: str
    epoch: int
    batch: int
    rows: int
    loss: float | None
    seconds: float
    bytes_sent: int


@dataclass(frozen=True)
class EpochRecord:
    """The training steps of one epoch together; ``loss`` is the mean of their losses."""

    epoch: int
    steps: int
    loss: float
    seconds: float
    bytes_sent: int


@dataclass(frozen=True)
class CommittedCheckpoint:
    """A checkpoint that every party has.

    Attributes:
        durable: it survives a power cut at any party.
        parties: every party's part of it.
        progress: JSON text of what the coordinator needs to go on from it.
    """

    step: int
    attempt: int
    durable: bool
    parties: Mapping[str, CheckpointId]
    progress: str

    @classmethod
    def of(cls, row: Row) -> Self:
        """The checkpoint in a row of table ``checkpoints``.

        Raises:
            ValueError: the row is none that vfl wrote.
        """
        step, attempt, durable, parties, progress = row
        try:
            identities = {name: CheckpointId(*identity) for name, identity in json.loads(parties).items()}
        except (TypeError, AttributeError) as error:
            raise ValueError("the parties of a checkpoint") from error
        return cls(step, attempt, bool(durable), identities, progress)


@dataclass(frozen=True)
class Event:
    """Something that happened to a run; ``time`` in seconds since 1970."""

    time: float
    kind: str
    text: str
    facts: Mapping[str, Any]

    @classmethod
    def of(cls, row: Row) -> Self:
        """The event in a row of table ``events``.

        Raises:
            ValueError: the row is none that vfl wrote.
        """
        time, kind, text, facts = row
        return cls(time, kind, text, json.loads(facts))
