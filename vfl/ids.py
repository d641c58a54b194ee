"""Names and addresses used throughout the system: roles, phases, batches, attempts, message addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""The pattern of a run's full name, which is used in names of files and directories."""


class Role(StrEnum):
    """The role of a process in a federation."""

    ACTIVE = "active"
    PASSIVE = "passive"
    COORDINATOR = "coordinator"


class Split(StrEnum):
    """Part of the aligned rows a batch is drawn from."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Phase(StrEnum):
    """One unit of work that the coordinator requests from all parties simultaneously; in this order within a step."""

    BOTTOM_FORWARD = "bottom_forward"
    INTERACTION_FORWARD = "interaction_forward"
    TOP = "top"
    INTERACTION_BACKWARD = "interaction_backward"
    BOTTOM_BACKWARD = "bottom_backward"
    SCORE = "score"
    RESIDUALS = "residuals"
    WEIGHT_STEP = "weight_step"
    KEEP = "keep"
    LOCAL_EPOCH = "local_epoch"
    MARK_BEST = "mark_best"
    RESTORE_BEST = "restore_best"


@dataclass(frozen=True, slots=True)
class Batch:
    """The batch of a step; every party derives its rows from the split and the job seed."""

    split: Split
    epoch: int
    index: int


@dataclass(frozen=True, slots=True)
class StepKey:
    """Identity of one execution of a step. A repeated step has a new attempt, and never the old masks."""

    run: str
    step: int
    attempt: int


class AttemptId(NamedTuple):
    """One attempt of a run, as every call of the coordinator names it: ``m.Align(*attempt, ...)``.

    Attributes:
        job: name and digest of the files that define it, see ``vfl.job.digests.job_id``.
        run: name of this execution of the job.
        number: from 0; increases with every interruption.
    """

    job: str
    run: str
    number: int


@dataclass(frozen=True, slots=True)
class CheckpointId:
    """One party's checkpoint: after which step it was taken, in which attempt, and the SHA-256 of its manifest."""

    step: int
    attempt: int
    digest: str


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a message: its kind and sender in one execution of a step; each address is used once.

    Content sent in pieces consists of several messages of one kind, distinguished by their ``part``.
    """

    key: StepKey
    kind: str
    sender: str
    part: int = 0
