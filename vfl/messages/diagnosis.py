"""What ``vfl doctor`` asks a party outside of any job, and the reply: versions, activity, and findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vfl.messages.control import ControlMessage


class Check(StrEnum):
    """What ``vfl doctor`` checks, in this order."""

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
    """How serious a finding is: only a problem prevents a job from running."""

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
    """What one member found out about another, or about itself. Contains no data and no local paths.

    Attributes:
        source: the member that checked.
        target: the member that was checked; the same as ``source`` for its own files.
        side: name of the member that must act; empty if nothing needs to be done.
        code: code of the error that a run would end with; empty unless the finding is a problem.
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
    """Any member to a party, outside of a job: what do you run? Does not affect a run.

    ``digest`` is that of the caller's job, if it asks about one: a party that serves several answers for that job.
    With ``probe_peers``, which only the coordinator may set, the party also tries to reach all others.
    """

    kind = "diagnose"
    probe_peers: bool
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis(ControlMessage):
    """Party to caller: versions, digest of its own job and federation, its clock, what it is doing.

    ``time`` is in seconds since 1970 in UTC. ``findings`` are about the other parties; empty if they were not probed.
    """

    kind = "diagnosis"
    party: str
    protocol_version: str
    package_version: str
    digest: str
    time: float
    activity: Activity
    findings: tuple[Finding, ...] = ()
