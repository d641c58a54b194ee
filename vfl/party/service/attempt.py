"""One attempt of a run at a party: what it is doing, and the calls that it has answered or is answering."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar

from vfl import messages as m
from vfl.errors import InternalError, PartyRestarted, ProtocolError, VflError, memory_exhausted
from vfl.ids import StepKey
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.roles.common import SETUP_STEP, RoleWorker
from vfl.runtime.logs import get_logger
from vfl.runtime.progress import Progress, count_in

_log = get_logger("vfl.party")

Reply = TypeVar("Reply")

PREPARE = "prepare"
"""What an attempt begins with."""

REMEMBERED_CALLS = 16
"""Replies kept for repeated calls; the coordinator repeats at most its latest."""


class OfAttempt(Protocol):
    """What tells which attempt a call belongs to."""

    @property
    def run(self) -> str:
        """Name of the run."""

    @property
    def attempt(self) -> int:
        """Number of the attempt."""


class Attempt:
    """Every call is worked on once, however often it comes; a later attempt ends this one.

    Args:
        run: its name.
        number: of the attempt, from 0.

    Attributes:
        mail: what the role talks to its peers with; None until the job has been accepted.
        where: what was last asked for, in words.
        trained: whether there is something to save.
        restored_step: of the checkpoint that the attempt goes on from.
        error: the first error since the last call that was answered: the run goes on without a checkpoint.
    """

    def __init__(self, run: str, number: int) -> None:
        self.run = run
        self.number = number
        self.mail: ExchangeDriver | None = None
        self._role: RoleWorker | None = None
        self.where = PREPARE
        self.trained = False
        self.restored_step = SETUP_STEP
        self.error: VflError | None = None
        self._progress = Progress()
        self._calls: dict[Hashable, asyncio.Task[Any]] = {}
        self._over = False

    def accept(self, role: RoleWorker, mail: ExchangeDriver) -> None:
        """From now on the role does the work."""
        self._role, self.mail = role, mail

    @property
    def role(self) -> RoleWorker:
        """What does the work.

        Raises:
            PartyRestarted: the job has not been accepted yet.
        """
        if self._role is None:
            raise not_prepared()
        return self._role

    @property
    def doing(self) -> str:
        """What is being worked on, in words; empty where nothing is."""
        return self.where if any(not task.done() for task in self._calls.values()) else ""

    @property
    def setup_key(self) -> StepKey:
        """Addresses messages before the first step."""
        return StepKey(self.run, SETUP_STEP, self.number)

    def check_current(self, run: str, number: int) -> None:
        """Whether a call is for this attempt.

        Raises:
            PartyRestarted: this party does not know the attempt yet.
            ProtocolError: the attempt is over: another coordinator goes on with the job.
        """
        if run != self.run or number > self.number:
            raise not_prepared()
        if number < self.number:
            raise superseded()

    def alive(self, call: m.Heartbeat, party: str) -> m.Alive:
        """What this party does now; takes note of who gets on."""
        name, seconds = "", 0.0
        if self.mail is not None:
            self.mail.progressing(call.progressing)
            name, seconds = self.mail.waiting_for
        return m.Alive(
            party=party,
            doing=self.doing,
            progress=self._progress.pieces,
            waiting_for=name,
            waiting_seconds=seconds,
        )

    async def once(self, key: Hashable, where: str, work: Callable[[Attempt], Awaitable[Reply]]) -> Reply:
        """Do the work of a call; a repeated one gets the same reply or the same error."""
        if key not in self._calls:
            while len(self._calls) >= REMEMBERED_CALLS:
                self._calls.pop(next(iter(self._calls)))
            self.where = where
            self._calls[key] = asyncio.ensure_future(self._guarded(work))
            self._calls[key].add_done_callback(_mark_retrieved)
        try:
            # A caller that gives up must not stop work that a repeated call will ask for again.
            reply: Reply = await asyncio.shield(self._calls[key])
        except asyncio.CancelledError:
            if self._over:
                raise superseded() from None
            raise
        return reply

    def end(self) -> None:
        """Stop whatever is going on. Arithmetic that runs in a thread ends by itself, and nobody takes its result."""
        self._over = True
        for task in self._calls.values():
            task.cancel()

    async def _guarded(self, work: Callable[[Attempt], Awaitable[Reply]]) -> Reply:
        count_in(self._progress)
        try:
            reply = await work(self)
        except VflError as error:
            # A model or a checkpoint that was refused memory has been told as a failure of its own.
            known: VflError = memory_exhausted(error, self.where) or error
            if not self._over:
                self._keep(known)
            raise known from error.__cause__
        except Exception as error:
            known = memory_exhausted(error, self.where) or InternalError(
                f"an internal error stopped {self.where}", remedy="see this party's log; please report it"
            )
            _log.debug("stack trace", where=self.where, exc_info=error)
            self._keep(known)
            raise known from error
        if not self._over:
            self.error = None
        return reply

    def _keep(self, error: VflError) -> None:
        """What ends the run shows it, or the next attempt does."""
        _log.debug("failed", where=self.where, error=str(error), code=error.code)
        error.will_be_shown = True
        self.error = self.error or error


def not_prepared() -> PartyRestarted:
    """What a party answers that knows nothing of the job."""
    return PartyRestarted(
        "a call came for a job that this party has not prepared: it was started again",
        remedy="if nothing goes on by itself, 'vfl run --resume' continues from the last checkpoint",
    )


def superseded() -> ProtocolError:
    """What a party answers to a coordinator that another one has replaced."""
    return ProtocolError(
        "a call of an attempt that is over was refused",
        remedy="let only one coordinator run the job: another one has gone on with it",
    )


def _mark_retrieved(task: asyncio.Task[Any]) -> None:
    """The coordinator may be gone and never collect the error, which is kept and logged without it."""
    if not task.cancelled():
        task.exception()
