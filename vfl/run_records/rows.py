"""The rows of the coordinator's record of its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from vfl.ids import CheckpointId

KEPT_VOLATILE = 2
"""Checkpoints kept, here and by parties, although a power cut may destroy them: newer than the last durable one."""

KEPT_DURABLE = 32
"""Checkpoints that survive a power cut and are kept here; parties keep ``checkpoints.keep``, three by default."""

Row = tuple[Any, ...]
"""One row of a table of the record."""


class RunState(StrEnum):
    """State of a run. A run recorded as RUNNING may have been killed."""

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
        digest: digest of the files that all parties agreed on.
        job_file: path of job.toml at the coordinator.
        attempt: the latest attempt that has begun; -1 before the first.
        step: the latest step for which all parties have a checkpoint; 0 before the first.
        started: seconds since 1970; so is ``updated``, when this record last changed.
        error: why it failed or stopped, as text.
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
            ValueError: the row was not written by vfl.
        """
        run, job, federation, digest, job_file, state, *rest = row
        return cls(run, job, federation, digest, job_file, RunState(state), *rest)


@dataclass(frozen=True)
class StepRecord:
    """One finished step: what it processed, and its results.

    Attributes:
        split: which split its rows belong to; ``epoch`` and ``batch`` identify them.
        loss: mean over the rows; None in evaluation.
        seconds: how long it took.
        bytes_sent: total of all parties.
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
    """Totals of the training steps of one epoch.

    Attributes:
        epoch: place in the outcome's history, from 1: epochs that only release outputs train nothing and have none.
        loss: mean of the steps' losses.
    """

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
        progress: JSON text with what the coordinator needs to resume from it.
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
            ValueError: the row was not written by vfl.
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
            ValueError: the row was not written by vfl.
        """
        time, kind, text, facts = row
        return cls(time, kind, text, json.loads(facts))
