"""What ``vfl doctor`` asks a party outside of any job, and what it is told: versions, activity, and findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vfl.messages.control import ControlMessage


class Check(StrEnum):
    """What ``vfl doctor`` looks at, in the order in which it does."""

    FILES = "files"
    CERTIFICATE = "certificate"
    REVOCATION = "revocation"
    TABLE = "table"
    LISTEN = "listen"
    NAME = "name"
    CONNECTION = "connection"
    TLS = "tls"
    ANSWER = "answer"
    VERSION = "version"
    JOB = "job"
    CLOCK = "clock"
    STATE = "state"


class Verdict(StrEnum):
    """Whether a finding stands in the way of a job: only a problem does."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Activity(StrEnum):
    """What a party's process is doing."""

    WAITING = "waiting"
    BUSY = "busy"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one member found out about another, or about itself. Holds no data and no local path.

    Attributes:
        source: who looked.
        target: at whom; the same as ``source`` for its own files.
        side: where to act, a member's name; empty where nothing is to be done.
        code: of the error that a job would end with; empty unless it is a problem.
    """

    source: str
    target: str
    check: Check
    verdict: Verdict
    summary: str
    side: str = ""
    remedy: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Diagnose(ControlMessage):
    """Any member to a party, outside of a job: what do you run? Does nothing to a job.

    ``digest`` is the asker's of its job, if it has one in mind: a party with several answers for the same one.
    With ``probe_peers``, which only the coordinator may ask for, the party also tries to reach all others.
    """

    kind = "diagnose"
    probe_peers: bool
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis(ControlMessage):
    """Party to whoever asked: versions, digest of its own job and federation, its clock, what it is doing.

    ``time`` is seconds since 1970 in UTC. ``findings`` are about the other parties; empty where they were not probed.
    """

    kind = "diagnosis"
    party: str
    protocol_version: str
    package_version: str
    digest: str
    time: float
    activity: Activity
    findings: tuple[Finding, ...] = ()
