"""A summary of an audit log: how much of what went to whom; and whether two parties' logs agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from vfl.audit.log import Crossed, Line
from vfl.audit.verify import Verification, Walk
from vfl.audit.words import meaning
from vfl.errors import AuditError
from vfl.ids import Role
from vfl.messages import Protection

MAX_FLOWS = 10_000
"""Kinds of flows in one summary; a run with nine parties has some hundred."""


@dataclass
class Flow:
    """All messages of one kind in one direction.

    Attributes:
        meaning: what they are, in plain words.
        first_step, last_step: 0 before the first batch.
    """

    direction: str
    peer: str
    kind: str
    protection: Protection
    meaning: str
    messages: int = 0
    bytes: int = 0
    first_step: int = 0
    last_step: int = 0
    first_time: str = ""
    last_time: str = ""

    def add(self, record: Crossed) -> None:
        """Count a message."""
        if not self.messages:
            self.first_step, self.first_time = record.step, record.time
        self.messages += 1
        self.bytes += record.bytes
        self.first_step, self.last_step = min(self.first_step, record.step), max(self.last_step, record.step)
        self.last_time = record.time


@dataclass
class Summary:
    """The content of a log.

    Attributes:
        verification: whether the log is consistent.
        flows: in the order in which they first occurred.
        batches: how many batches were processed, by split and epoch.
    """

    verification: Verification
    flows: list[Flow] = field(default_factory=list)
    batches: dict[tuple[str, int], int] = field(default_factory=dict)
    first_time: str = ""
    last_time: str = ""

    @property
    def party(self) -> str:
        """Whose log it is; empty if the log does not say."""
        return self.verification.opened.party if self.verification.opened else ""

    def left(self) -> list[Flow]:
        """What left this party."""
        return [flow for flow in self.flows if flow.direction == "sent"]

    def came(self) -> list[Flow]:
        """What came in."""
        return [flow for flow in self.flows if flow.direction == "received"]

    @property
    def in_the_clear(self) -> list[Flow]:
        """What crossed without the protection that it needs, in either direction."""
        return [flow for flow in self.flows if flow.protection is Protection.CLEAR]


def summarize(lines: Iterable[Line | None], head: str | None = None) -> Summary:
    """Read, check and count a whole log.

    Raises:
        AuditError: it has more kinds of flows than any run.
    """
    walk = Walk(head)
    flows: dict[tuple[str, str, str, Protection], Flow] = {}
    batches: dict[tuple[str, int], set[int]] = {}
    times: list[str] = []
    for line in lines:
        walk.take(line)
        record = line.record if line else None
        if record is None:
            continue
        times = [times[0] if times else record.time, record.time]
        if isinstance(record, Crossed):
            _flow(flows, record, walk.result).add(record)
            if record.batch is not None:
                batches.setdefault((record.batch.split, record.batch.epoch), set()).add(record.batch.index)
    first, last = times or ["", ""]
    counts = {key: len(indices) for key, indices in batches.items()}
    return Summary(walk.end(), list(flows.values()), counts, first, last)


def _flow(flows: dict[tuple[str, str, str, Protection], Flow], record: Crossed, verification: Verification) -> Flow:
    key = (record.direction, record.peer, record.kind, record.protection)
    if key not in flows:
        if len(flows) >= MAX_FLOWS:
            raise AuditError("this is not the audit log of a run", detail=f"more than {MAX_FLOWS} kinds of flows")
        own = verification.opened.party if verification.opened else "this party"
        sender, receiver = (own, record.peer) if record.direction == "sent" else (record.peer, own)
        roles = verification.opened.roles.values() if verification.opened else ()
        passive = sum(role == Role.PASSIVE for role in roles)
        flows[key] = Flow(*key, meaning=meaning(record.kind, sender, receiver, passive))
    return flows[key]


_Message = tuple[str, str, int, int, int, int, str, str]
"""Kind, protection, step, attempt, part, bytes, forms of the tensors, digest."""


@dataclass
class Half:
    """One party's messages to and from the others, as needed for a comparison."""

    verification: Verification
    sent: dict[str, Counter[_Message]] = field(default_factory=dict)
    received: dict[str, Counter[_Message]] = field(default_factory=dict)

    @property
    def party(self) -> str:
        """Whose log it is."""
        return self.verification.opened.party if self.verification.opened else ""

    @property
    def run(self) -> str:
        """Of which run."""
        return self.verification.opened.run if self.verification.opened else ""


def read_half(lines: Iterable[Line | None]) -> Half:
    """Read one log for a comparison."""
    walk = Walk()
    half = Half(walk.result)
    for line in lines:
        walk.take(line)
        record = line.record if line else None
        if isinstance(record, Crossed):
            side = half.sent if record.direction == "sent" else half.received
            side.setdefault(record.peer, Counter())[_message(record)] += 1
    walk.end()
    return half


def joined(halves: Sequence[Half]) -> list[Half]:
    """The logs of each party as one: a party that was restarted during a run has several of it."""
    by_party: dict[str, Half] = {}
    for half in halves:
        whole = by_party.setdefault(half.party, Half(half.verification))
        if whole.verification.intact:
            whole.verification = half.verification if not half.verification.intact else whole.verification
        for into, of in ((whole.sent, half.sent), (whole.received, half.received)):
            for peer, messages in of.items():
                into[peer] = into.get(peer, Counter[_Message]()) + messages
    return list(by_party.values())


def _message(record: Crossed) -> _Message:
    forms = ";".join(f"{t.name}:{t.dtype}:{t.shape}" for t in record.tensors)
    protection = str(record.protection)
    return record.kind, protection, record.step, record.attempt, record.part, record.bytes, forms, record.digest


@dataclass(frozen=True)
class Difference:
    """A message that is only in one side's log, or is different in the other's.

    Attributes:
        what: ``missing`` from the receiver's log, ``unsent`` according to the sender's log, or ``different`` there.
    """

    what: Literal["missing", "unsent", "different"]
    sender: str
    receiver: str
    kind: str
    step: int
    attempt: int
    part: int


@dataclass(frozen=True)
class Comparison:
    """The result of comparing two logs of one run.

    Attributes:
        agreed: number of messages that are the same in both logs.
    """

    parties: tuple[str, str]
    agreed: int
    differences: list[Difference]


def compare(first: Half, second: Half) -> Comparison:
    """Check that what each says it sent is what the other says it received: form, size, protection, content digest.

    Raises:
        AuditError: a log is inconsistent, or they are not the logs of two parties of one run.
    """
    for half in (first, second):
        if not half.verification.intact:
            raise AuditError(
                f"the log of {half.party or 'one party'} is not consistent",
                detail="; ".join(half.verification.problems),
                remedy="check it with 'vfl audit verify' first",
            )
    one, other = first.verification.opened, second.verification.opened
    if one is None or other is None or one.run != other.run or one.party == other.party:
        raise AuditError("these are not the logs of two parties of one run", remedy="choose two logs of the same run")
    agreed, differences = 0, []
    for sender, receiver in ((first, second), (second, first)):
        sent = sender.sent.get(receiver.party, Counter[_Message]())
        received = receiver.received.get(sender.party, Counter[_Message]())
        agreed += (sent & received).total()
        differences += _differences(sent - received, received - sent, sender.party, receiver.party)
    return Comparison((one.party, other.party), agreed, differences)


def _differences(missing: Counter[_Message], unsent: Counter[_Message], sender: str, receiver: str) -> list[Difference]:
    lost, extra = (Counter((m[0], *m[2:5]) for m in messages.elements()) for messages in (missing, unsent))
    kinds: list[tuple[Literal["missing", "unsent", "different"], Counter[tuple[str, int, int, int]]]] = [
        ("different", lost & extra),
        ("missing", lost - extra),
        ("unsent", extra - lost),
    ]
    return [Difference(what, sender, receiver, *key) for what, keys in kinds for key in sorted(keys.elements())]
