"""Verifies an audit log: nothing removed, changed, moved or inserted, as far as the log alone can show.

The hashes have no key. Whoever holds a log can rewrite it from any record on; only its head, noted elsewhere, reveals
that. The end of a log can be cut off; only a missing closing record or the head reveals that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from vfl.audit.log import GENESIS, Closed, Crossed, Line, Opened, Record

MAX_PROBLEMS = 100


@dataclass
class Verification:
    """What was found.

    Attributes:
        records: number of records read.
        head: hash of the last one.
        opened: the first record, if it is one that opens a log.
        closed: the closing record, if there is one.
        torn: whether the last line is incomplete, as when a process was killed while writing it.
        problems: what is inconsistent, in words, at most ``MAX_PROBLEMS``.
    """

    records: int = 0
    head: str = GENESIS
    opened: Opened | None = None
    closed: Closed | None = None
    torn: bool = False
    problems: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether everything present is consistent; the end may be missing if ``closed`` is None."""
        return not self.problems

    def found(self, problem: str) -> None:
        """Add a problem."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


def verify(lines: Iterable[Line | None], head: str | None = None) -> Verification:
    """Check a whole log.

    Args:
        lines: from ``read_lines``.
        head: the hash of the last record, if it was noted elsewhere.
    """
    walk = Walk(head)
    for line in lines:
        walk.take(line)
    return walk.end()


class Walk:
    """Checks records one by one, in constant memory except for gaps in the numbers."""

    def __init__(self, head: str | None = None) -> None:
        self.result = Verification()
        self._noted_head = head
        self._head_seen = head is None
        self._expected = 0
        self._previous: str | None = GENESIS
        self._gaps: list[range] = []
        self._bytes = {"sent": 0, "received": 0}

    def take(self, line: Line | None) -> None:
        """Check the next line."""
        result = self.result
        if line is None:
            result.torn = True
            return
        result.head = line.hash
        self._head_seen |= line.hash == self._noted_head
        if line.record is None:
            result.found(f"line {line.number} is not a record of an audit log")
            self._previous = None
            return
        result.records += 1
        if not line.intact:
            result.found(
                f"record {line.record.n} (line {line.number}) was changed: its hash does not match its content"
            )
        self._place(line.record, line)
        self._content(line.record, line)

    def _place(self, record: Record, line: Line) -> None:
        n = record.n
        if n < self._expected:
            self._out_of_place(n, line)
            return
        if n > self._expected:
            self.result.found(f"{_records(range(self._expected, n))} removed or moved, before line {line.number}")
            self._gaps.append(range(self._expected, n))
            self._gaps = self._gaps[-MAX_PROBLEMS:]
        elif self._previous is not None and record.previous != self._previous:
            self.result.found(
                f"record {n} (line {line.number}) does not follow the previous record: one of them was replaced"
            )
        # The successor of a changed line still carries the old hash, which is not a second problem.
        self._expected, self._previous = n + 1, line.hash if line.intact else None

    def _out_of_place(self, n: int, line: Line) -> None:
        gap = next((gap for gap in self._gaps if n in gap), None)
        if gap is None:
            self.result.found(f"record {n} appears again at line {line.number}: it was inserted")
            return
        self.result.found(f"record {n} was moved to line {line.number}")
        self._gaps.remove(gap)
        self._gaps += [part for part in (range(gap.start, n), range(n + 1, gap.stop)) if part]

    def _content(self, record: Record, line: Line) -> None:
        result = self.result
        if result.closed is not None:
            result.found(f"line {line.number} comes after the closing record")
        match record:
            case Opened():
                if result.opened is not None:
                    result.found(f"line {line.number} opens the log a second time")
                result.opened = result.opened or record
            case Crossed():
                self._bytes[record.direction] += record.bytes
            case Closed():
                result.closed = record
                if record.records != record.n:
                    result.found("the closing record states a number of records other than its own")
        if line.number == 1 and not isinstance(record, Opened):
            result.found("the log does not begin with its opening record")

    def end(self) -> Verification:
        """The overall result."""
        result = self.result
        if not result.records:
            result.found("there is no record")
        if result.closed and result.intact:
            stated = (result.closed.bytes_sent, result.closed.bytes_received)
            if stated != (self._bytes["sent"], self._bytes["received"]):
                result.found("the closing record states numbers of bytes other than those of the records before it")
        if self._noted_head not in (None, result.head):
            what = "was continued after it" if self._head_seen else "does not contain it: it was truncated or rewritten"
            result.found(f"the last record does not have the hash that was noted; the log {what}")
        return result


def _records(numbers: range) -> str:
    if len(numbers) == 1:
        return f"record {numbers.start} was"
    return f"records {numbers.start} to {numbers.stop - 1} were"
