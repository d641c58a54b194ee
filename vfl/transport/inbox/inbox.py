"""Where messages from peers wait until a step takes them: each address once, bounded in bytes, and with a timeout.

Used from one event loop; every method except :meth:`Inbox.take` is atomic.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager

import numpy as np

from vfl.errors import DeadlineExceeded, InternalError, JobAborted, ProtocolError, VflError
from vfl.ids import Address, StepKey
from vfl.messages import Message
from vfl.runtime.logs import get_logger
from vfl.transport.inbox.open_run import OpenRun
from vfl.transport.inbox.quota import InboxQuota
from vfl.transport.wire.data_codec import message_bytes
from vfl.transport.wire.limits import Limits

_log = get_logger(__name__)


class Inbox:
    """Messages received and not yet taken.

    Args:
        limits: bounds on what peers can make this party store.
        senders: how many parties may send. Of several, each has a share from the start, before any run is open: half
            of all room, and an equal part of that for runs that are not open.
    """

    def __init__(self, limits: Limits | None = None, senders: int = 2) -> None:
        self.limits = limits = limits or Limits()
        self._runs: dict[str, OpenRun] = {}
        self._held: dict[Address, Message] = {}
        self._closed_attempts: dict[str, int] = {}
        self._room = InboxQuota(limits.inbox_bytes, limits.inbox_messages, parts=min(senders, 2))
        early = "message for a run that this party has not prepared"
        self._early = InboxQuota(limits.held_bytes, limits.held_messages, parts=senders, what=early)

    @property
    def stored_bytes(self) -> int:
        """Total bytes of messages that wait to be taken or are being received."""
        return self._room.bytes

    def open_run(self, run: str, attempt: int, senders: Set[str]) -> None:
        """Accept messages for this attempt of a run from ``senders``, including those that arrived early.

        Opening an attempt that is already open changes nothing. An earlier attempt that is still open is discarded.

        Raises:
            ProtocolError: this attempt is open with other senders, or is over, or a later one has been opened.
        """
        current = self._runs.get(run)
        if current and (current.attempt, current.senders) == (attempt, senders):
            return
        last = current.attempt if current else self._closed_attempts.get(run, -1)
        if attempt <= last:
            raise ProtocolError(
                f"attempt {attempt} of the run was already opened here", remedy="start the run again with a new name"
            )
        self.discard_run(run)
        opened = self._runs[run] = OpenRun(attempt, frozenset(senders))
        self._adopt_held(run, opened)

    def reached(self, key: StepKey) -> None:
        """The run has reached this step: messages for earlier steps will never be taken and are dropped.

        All parties go through the steps together, so that honest messages are for this step or the next. A step of an
        attempt that has been replaced says nothing about how far the current attempt is, and is ignored.
        """
        opened = self._runs.get(key.run)
        if opened is not None and opened.attempt == key.attempt and key.step > opened.step:
            opened.step = key.step
            self._drop(opened.present, lambda address: address.key.step < key.step)

    def _adopt_held(self, run: str, opened: OpenRun) -> None:
        for address in [a for a in self._held if a.key.run == run and a.key.attempt <= opened.attempt]:
            message = self._held.pop(address)
            self._early.leave(address.sender, message_bytes(message))
            if address.key.attempt == opened.attempt and address.sender in opened.senders:
                opened.present[address] = message
            else:
                self._room.leave(address.sender, message_bytes(message))
                _log.warning("dropped an early message", address=str(address))

    def discard_run(self, run: str) -> None:
        """Forget a run: its messages are dropped, waiting takes raise JobAborted, and its later messages are refused.

        Does nothing for a run that is not open here.
        """
        closed = self._runs.pop(run, None)
        if closed is None:
            return
        self._closed_attempts[run] = closed.attempt
        self._drop(closed.present)
        if closed.error is None:
            closed.fail(JobAborted("the run is over at this party"))
        closed.wake_all()

    def fail(self, run: str, error: VflError) -> None:
        """Make every current and later take from this attempt of the run raise ``error``, and every put."""
        failed = self._runs.get(run)
        if failed is None or failed.error is not None:
            return
        failed.fail(error)
        self._drop(failed.present)
        failed.wake_all()

    def _drop(self, messages: dict[Address, Message], which: Callable[[Address], bool] = lambda _: True) -> None:
        for address in [address for address in messages if which(address)]:
            self._room.leave(address.sender, message_bytes(messages.pop(address)))

    @contextmanager
    def reserve(self, address: Address, count: int) -> Iterator[None]:
        """Reserve room for a message of ``count`` bytes while it is being received.

        Raises:
            ProtocolError: on entering the context, if there is no room.
        """
        with ExitStack() as stack:
            if self._is_early(address):
                stack.enter_context(self._early.reserve(address.sender, count))
            stack.enter_context(self._room.reserve(address.sender, count))
            yield

    def _is_early(self, address: Address) -> bool:
        """Whether a message is for an attempt that may be opened later."""
        run = self._runs.get(address.key.run)
        return address.key.attempt > (run.attempt if run else self._closed_attempts.get(address.key.run, -1))

    def put(self, address: Address, message: Message) -> None:
        """Store a received message. A duplicate that arrives while the first still waits is accepted and dropped.

        Raises:
            ProtocolError: the sender does not belong to the run, the attempt or the step is over, the step is too far
                ahead, the address was already taken or holds a different message, or there is no room.
            VflError: the error that the run failed with.
        """
        run = self._runs.get(address.key.run)
        if run is not None and address.key.attempt == run.attempt:
            self._put_open(run, address, message)
        elif self._is_early(address):
            self._hold(address, message)
        else:
            raise ProtocolError(
                "a message for an attempt that is over was refused",
                detail=str(address),
                remedy="start the run again with a new name",
            )

    def _put_open(self, run: OpenRun, address: Address, message: Message) -> None:
        if address.sender not in run.senders:
            raise ProtocolError("a message from a party that does not take part was refused", detail=str(address))
        run.raise_error()
        if not run.step <= address.key.step <= run.step + self.limits.steps_ahead:
            raise ProtocolError(
                f"{address.sender} sent '{address.kind}' for step {address.key.step}, but the run is at {run.step}",
                detail=str(address),
                remedy=f"check that {address.sender} runs the same version of vfl, unchanged",
            )
        if run.was_taken(address):
            raise _duplicate(address)
        if self._store(run.present, address, message):
            run.wake(address)

    def _hold(self, address: Address, message: Message) -> None:
        if address not in self._held:
            self._early.check(address.sender, message_bytes(message))
        if self._store(self._held, address, message):
            self._early.enter(address.sender, message_bytes(message))

    def _store(self, messages: dict[Address, Message], address: Address, message: Message) -> bool:
        """Store a message unless an identical one is there; returns whether it is new."""
        if address in messages:
            if not _identical(messages[address], message):
                raise _duplicate(address)
            return False
        self._room.enter(address.sender, message_bytes(message))
        messages[address] = message
        return True

    async def take(self, address: Address, timeout: float, waiting_for: str) -> Message:  # noqa: ASYNC109  # part of the error
        """The message at an address, waiting at most ``timeout`` seconds for it. Each address can be taken once.

        Args:
            address: the address to wait for.
            timeout: in seconds.
            waiting_for: what the message is needed for, in words, for the error.

        Raises:
            DeadlineExceeded: the message did not arrive in time.
            InternalError: the run is not open, or the address was already taken or is already being waited for.
            VflError: the error that the run failed with.
        """
        run = self._run_to_take_from(address)
        if (message := self._take_now(run, address)) is not None:
            return message
        waiter = run.waiters[address] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await waiter
        except TimeoutError:
            raise overdue(address, timeout, waiting_for) from None
        finally:
            del run.waiters[address]
        message = self._take_now(run, address)
        if message is None:
            raise InternalError("a message disappeared between its arrival and its use", detail=str(address))
        return message

    def _run_to_take_from(self, address: Address) -> OpenRun:
        run = self._runs.get(address.key.run)
        if run is None or run.attempt != address.key.attempt or address.sender not in run.senders:
            raise InternalError("a message was awaited that can never arrive", detail=f"not open: {address}")
        if address in run.waiters or run.was_taken(address):
            raise InternalError("a message was awaited twice", detail=str(address))
        return run

    def _take_now(self, run: OpenRun, address: Address) -> Message | None:
        run.raise_error()
        message = run.take(address)
        if message is not None:
            self._room.leave(address.sender, message_bytes(message))
        return message


def overdue(address: Address, seconds: float, waiting_for: str) -> DeadlineExceeded:
    """The error for a message that did not arrive in time; ``waiting_for`` says in words what it is needed for."""
    return DeadlineExceeded(
        f"{address.sender} did not send '{address.kind}' within {seconds:g} s, needed for {waiting_for}",
        remedy=f"check the log of {address.sender}, or allow more time",
    )


def _identical(first: Message, second: Message) -> bool:
    others = second.tensors()
    return all(np.array_equal(array, others[name]) for name, array in first.tensors().items())


def _duplicate(address: Address) -> ProtocolError:
    return ProtocolError(
        f"message '{address.kind}' for step {address.key.step} from {address.sender} arrived twice",
        detail=str(address),
        remedy="a repeated step needs a new attempt",
    )
