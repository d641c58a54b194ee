"""Where messages of peers wait until a step takes them: each address once, bounded in bytes, never waited for blindly.

Used from one event loop; every method but :meth:`Inbox.take` is atomic.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import structlog

from vfl.errors import DeadlineExceeded, InternalError, JobAborted, ProtocolError, VflError
from vfl.ids import Address
from vfl.messages import Message
from vfl.transport.codec import message_bytes
from vfl.transport.limits import Limits

_log = structlog.get_logger(__name__)


class _Steps:
    """A set of step numbers, kept as ranges: constant memory for steps taken in order, however long the job."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def __contains__(self, step: int) -> bool:
        at = bisect_right(self._starts, step) - 1
        return at >= 0 and step <= self._ends[at]

    def add(self, step: int) -> None:
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
class _OpenJob:
    attempt: int
    senders: frozenset[str]
    present: dict[Address, Message] = field(default_factory=dict)
    waiters: dict[Address, asyncio.Future[None]] = field(default_factory=dict)
    taken: dict[tuple[str, str, int], _Steps] = field(default_factory=dict)
    error: VflError | None = None

    def was_taken(self, address: Address) -> bool:
        return address.key.step in self.taken.get((address.sender, address.kind, address.part), ())

    def take(self, address: Address) -> Message | None:
        message = self.present.pop(address, None)
        if message is not None:
            taken = self.taken.setdefault((address.sender, address.kind, address.part), _Steps())
            taken.add(address.key.step)
        return message

    def wake_all(self) -> None:
        for waiter in self.waiters.values():
            _wake(waiter)


class Inbox:
    """Messages received and not yet taken.

    Args:
        limits: bounds on what peers can make this party store.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._jobs: dict[str, _OpenJob] = {}
        self._held: dict[Address, Message] = {}
        self._closed_attempts: dict[str, int] = {}
        self._stored_bytes = 0
        self._held_bytes = 0
        self._reserved_bytes = 0

    @property
    def stored_bytes(self) -> int:
        """Bytes of all messages that wait to be taken."""
        return self._stored_bytes

    def open_job(self, job: str, attempt: int, senders: Set[str]) -> None:
        """Accept messages of this attempt of a job from ``senders``; those that came early are adopted.

        Opening what is open already changes nothing. An earlier attempt that is still open is discarded.

        Raises:
            ProtocolError: this attempt or a later one is open with other senders, or is over.
        """
        current = self._jobs.get(job)
        if current and (current.attempt, current.senders) == (attempt, senders):
            return
        last = current.attempt if current else self._closed_attempts.get(job, -1)
        if attempt <= last:
            raise ProtocolError(
                f"attempt {attempt} of the job has already run here", remedy="start the job again with a new name"
            )
        self.discard_job(job)
        opened = self._jobs[job] = _OpenJob(attempt, frozenset(senders))
        self._adopt_held(job, opened)

    def _adopt_held(self, job: str, opened: _OpenJob) -> None:
        for address in [a for a in self._held if a.key.job == job and a.key.attempt <= opened.attempt]:
            message = self._held.pop(address)
            self._held_bytes -= message_bytes(message)
            if address.key.attempt == opened.attempt and address.sender in opened.senders:
                opened.present[address] = message
            else:
                self._stored_bytes -= message_bytes(message)
                _log.warning("dropped an early message", address=str(address))

    def discard_job(self, job: str) -> None:
        """Forget a job: its messages are dropped, whoever waits gets JobAborted, later messages of it are refused.

        A job that is not open here is left alone.
        """
        closed = self._jobs.pop(job, None)
        if closed is None:
            return
        self._closed_attempts[job] = closed.attempt
        self._stored_bytes -= sum(message_bytes(m) for m in closed.present.values())
        closed.error = closed.error or JobAborted("the job is over at this party")
        closed.wake_all()

    def fail(self, job: str, error: VflError) -> None:
        """Every take of this attempt of the job, waiting or later, raises ``error``; so does every put."""
        failed = self._jobs.get(job)
        if failed is None or failed.error is not None:
            return
        failed.error = error
        self._stored_bytes -= sum(message_bytes(m) for m in failed.present.values())
        failed.present.clear()
        failed.wake_all()

    @contextmanager
    def reserve(self, count: int) -> Iterator[None]:
        """Room for a message of ``count`` bytes while it is being received.

        Raises:
            ProtocolError: there is no room.
        """
        if self._stored_bytes + self._reserved_bytes + count > self.limits.inbox_bytes:
            raise _full()
        self._reserved_bytes += count
        try:
            yield
        finally:
            self._reserved_bytes -= count

    def put(self, address: Address, message: Message) -> None:
        """Store a received message. The same message again, while the first still waits, is accepted and dropped.

        Raises:
            ProtocolError: the sender does not belong to the job, the attempt is over, the address was already taken
                or holds a different message, or there is no room.
            VflError: the error the job failed with.
        """
        job = self._jobs.get(address.key.job)
        last = job.attempt if job else self._closed_attempts.get(address.key.job, -1)
        if job is not None and address.key.attempt == job.attempt:
            self._put_open(job, address, message)
        elif address.key.attempt > last:
            self._hold(address, message)
        else:
            raise ProtocolError(
                "a message of an attempt that is over was refused",
                detail=str(address),
                remedy="start the job again with a new name",
            )

    def _put_open(self, job: _OpenJob, address: Address, message: Message) -> None:
        if address.sender not in job.senders:
            raise ProtocolError("a message from a party that does not take part was refused", detail=str(address))
        if job.error is not None:
            raise job.error
        if job.was_taken(address):
            raise _duplicate(address)
        if self._store(job.present, address, message) and address in job.waiters:
            _wake(job.waiters[address])

    def _hold(self, address: Address, message: Message) -> None:
        no_room = self._held_bytes + message_bytes(message) > self.limits.held_bytes
        if address not in self._held and (no_room or len(self._held) >= self.limits.held_messages):
            raise ProtocolError(
                "too many messages arrived for jobs that this party has not prepared", detail=str(address)
            )
        if self._store(self._held, address, message):
            self._held_bytes += message_bytes(message)

    def _store(self, messages: dict[Address, Message], address: Address, message: Message) -> bool:
        """Whether the message is new; an identical one that is there already is fine."""
        if address in messages:
            if not _identical(messages[address], message):
                raise _duplicate(address)
            return False
        if self._stored_bytes + message_bytes(message) > self.limits.inbox_bytes:
            raise _full()
        messages[address] = message
        self._stored_bytes += message_bytes(message)
        return True

    async def take(self, address: Address, timeout: float, waiting_for: str) -> Message:  # noqa: ASYNC109  # part of the error
        """The message of an address, waiting for it at most ``timeout`` seconds. Each address can be taken once.

        Args:
            address: what to wait for.
            timeout: in seconds.
            waiting_for: what it is needed for, in words, for the error.

        Raises:
            DeadlineExceeded: it did not come in time.
            InternalError: the job is not open, or the address was taken or is being waited for already.
            VflError: the error the job failed with.
        """
        job = self._job_to_take_from(address)
        if (message := self._take_now(job, address)) is not None:
            return message
        waiter = job.waiters[address] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise DeadlineExceeded(
                f"{address.sender} did not send '{address.kind}' within {timeout:g} s, needed for {waiting_for}",
                remedy=f"look into the log of {address.sender}, or allow more time",
            ) from None
        finally:
            del job.waiters[address]
        message = self._take_now(job, address)
        if message is None:
            raise InternalError("a message vanished between its arrival and its use", detail=str(address))
        return message

    def _job_to_take_from(self, address: Address) -> _OpenJob:
        job = self._jobs.get(address.key.job)
        if job is None or job.attempt != address.key.attempt or address.sender not in job.senders:
            raise InternalError("a message was awaited that can never come", detail=f"not open: {address}")
        if address in job.waiters or job.was_taken(address):
            raise InternalError("a message was awaited twice", detail=str(address))
        return job

    def _take_now(self, job: _OpenJob, address: Address) -> Message | None:
        if job.error is not None:
            raise job.error
        message = job.take(address)
        if message is not None:
            self._stored_bytes -= message_bytes(message)
        return message


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _identical(first: Message, second: Message) -> bool:
    others = second.tensors()
    return all(np.array_equal(array, others[name]) for name, array in first.tensors().items())


def _duplicate(address: Address) -> ProtocolError:
    return ProtocolError(
        f"message '{address.kind}' of step {address.key.step} arrived twice",
        detail=str(address),
        remedy="a repeated step needs a new attempt",
    )


def _full() -> ProtocolError:
    return ProtocolError(
        "this party has no room for another message",
        remedy="use a smaller batch, or find out why this party falls behind",
    )
