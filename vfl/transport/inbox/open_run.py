"""One attempt of a run in the inbox: what has arrived, what was taken, and who waits."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass, field
from types import TracebackType

from vfl.errors import VflError
from vfl.ids import Address
from vfl.messages import Message


class StepRanges:
    """A set of step numbers, stored as ranges: constant memory for steps taken in order, however long the run."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, step: int) -> bool:
        at = bisect_right(self._starts, step) - 1
        return at >= 0 and step <= self._ends[at]

    def add(self, step: int) -> None:
        """Add a step; does nothing if it is already in the set."""
        if step in self:
            return
        at = bisect_right(self._starts, step)
        joins_left = at > 0 and self._ends[at - 1] == step - 1
        joins_right = at < len(self._starts) and self._starts[at] == step + 1
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends.pop(at)
            del self._starts[at]
        elif joins_left:
            self._ends[at - 1] = step
        elif joins_right:
            self._starts[at] = step
        else:
            self._starts.insert(at, step)
            self._ends.insert(at, step)


@dataclass(slots=True)
class OpenRun:
    """One attempt of a run that is open here.

    Attributes:
        attempt: number of the attempt.
        senders: parties that take part.
        present: messages that have not been taken yet.
        waiters: takes that wait for a message that has not arrived yet.
        error: the error that the run failed with.
        step: the step that the run has reached.
    """

    attempt: int
    senders: frozenset[str]
    present: dict[Address, Message] = field(default_factory=dict)
    waiters: dict[Address, asyncio.Future[None]] = field(default_factory=dict)
    _taken: dict[tuple[str, str, int], StepRanges] = field(default_factory=dict)
    error: VflError | None = None
    step: int = 0
    _failed_at: TracebackType | None = None

    def fail(self, error: VflError) -> None:
        """Remember what the run failed with."""
        self.error, self._failed_at = error, error.__traceback__

    def raise_error(self) -> None:
        """Raise what the run failed with, if it did.

        Each time an exception is raised its stack trace gets longer, and a peer decides how often this one is.
        """
        if self.error is not None:
            raise self.error.with_traceback(self._failed_at)

    def was_taken(self, address: Address) -> bool:
        """Whether the message at an address has arrived and was taken."""
        return address.key.step in self._taken.get((address.sender, address.kind, address.part), ())

    def take(self, address: Address) -> Message | None:
        """Remove and return the message at an address, or None if it is not there."""
        message = self.present.pop(address, None)
        if message is not None:
            taken = self._taken.setdefault((address.sender, address.kind, address.part), StepRanges())
            taken.add(address.key.step)
        return message

    def wake(self, address: Address) -> None:
        """Let the take that waits for the message at an address check again."""
        waiter = self.waiters.get(address)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wake_all(self) -> None:
        """Let every waiting take check again."""
        for address in self.waiters:
            self.wake(address)
