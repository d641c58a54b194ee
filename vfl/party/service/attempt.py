"""One attempt of a run at a party: its current work, and the calls answered or in progress."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Protocol, TypeVar

from vfl import messages as m
from vfl.checkpoints.store import Snapshot
from vfl.errors import InternalError, VflError, memory_exhausted
from vfl.ids import Batch, CheckpointId, Phase, StepKey
from vfl.job.schedule import Schedule
from vfl.party.config import PartySetup
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.roles.worker import SETUP_STEP, RoleWorker
from vfl.party.service.refusals import not_prepared, out_of_order, superseded
from vfl.party.service.schedule_guard import ScheduleGuard
from vfl.runtime.background import start_awaited
from vfl.runtime.foreign_text import printable
from vfl.runtime.logs import get_logger
from vfl.runtime.progress import Progress, count_in

_log = get_logger("vfl.party")

Reply = TypeVar("Reply")

PREPARE = "preparation"
"""The first work of an attempt."""

REMEMBERED_CALLS = 16
"""Replies kept for repeated calls; the coordinator repeats at most its latest."""

ALIGN = "align"
SETUP_CALLS = frozenset({"prepare", ALIGN, "begin"})
"""Their replies are kept for the whole attempt: done again, they would draw other shares for weights in use."""


class OfAttempt(Protocol):
    """A call that identifies the attempt it belongs to."""

    @property
    def run(self) -> str:
        """Name of the run."""

    @property
    def attempt(self) -> int:
        """Number of the attempt."""


class Attempt:
    """Processes every call once, however often it is repeated; a later attempt ends this one.

    Args:
        run: name of the run.
        number: number of the attempt, from 0.
        earlier: the attempt of the same run that this one ends, if this process took part in one.

    Attributes:
        interruptions: what ended earlier attempts, in words.
        mail: how the role communicates with its peers; None until the job has been accepted.
        where: the last requested work, in words.
        guard: what of the schedule is due; None before the alignment, and where only ids are counted.
        restored_step: step of the checkpoint that the attempt resumes from.
        error: the first error since the last successful call, which clears it: a run survives a failed checkpoint.
    """

    def __init__(self, run: str, number: int, earlier: Attempt | None = None) -> None:
        self.interruptions: tuple[str, ...] = () if earlier is None else (*earlier.interruptions, earlier.interruption)
        self.run = run
        self.number = number
        self.mail: ExchangeDriver | None = None
        self._role: RoleWorker | None = None
        self.where = PREPARE
        self.guard: ScheduleGuard | None = None
        self.restored_step = SETUP_STEP
        self.error: VflError | None = None
        self._begun = False
        self._failed = self._saved = False
        self._turn = asyncio.Lock()
        self._progress = Progress()
        self._calls: dict[Hashable, asyncio.Future[Any]] = {}
        self._over = False

    def accept(self, role: RoleWorker, mail: ExchangeDriver) -> None:
        """Let the role do the work from now on."""
        self._role, self.mail = role, mail

    def restore(self, snapshot: Snapshot, checkpoint: CheckpointId) -> None:
        """Resume from a checkpoint in what follows."""
        self.role.restore(snapshot, checkpoint)
        self.restored_step = snapshot.step

    def check_state_is_open(self) -> None:
        """Check that the parties have not yet agreed on the state with which they begin or resume.

        Raises:
            PolicyRefusal: they have.
        """
        if self.guard is not None:
            raise out_of_order("a checkpoint to be restored after the alignment")

    def follow(self, setup: PartySetup, aligned: m.Aligned) -> None:
        """Accept only the calls of the schedule that follows from the job and these rows, from the restored step on."""
        schedule = Schedule(setup.job, aligned.split_rows)
        self.guard = ScheduleGuard(schedule, self.restored_step, setup.entry.role, self.role.best_so_far)

    async def begin(self) -> None:
        """Take the agreed state as that of the weights.

        Raises:
            PolicyRefusal: the parties have not agreed on one.
        """
        if self.guard is None:
            raise out_of_order("the initial weights before the alignment")
        await self.role.begin(self.setup_key)
        self._begun = True

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """Run the phase that is due; return published metrics. After a phase that failed, none is due any more.

        Two parties may differ in whether a phase failed. Their shares of the weights would no longer belong together.

        Raises:
            PolicyRefusal: another call is due, or a phase has failed.
        """
        self.schedule.phase(key, phase, batch)
        try:
            return await self.role.run_phase(key, phase, batch)
        except BaseException:
            self._failed = True
            raise

    async def save(self) -> float:
        """Save the trained model, if this attempt trains one; the certified Lipschitz constant.

        Raises:
            PolicyRefusal: the schedule is not at its end, or not even the common ids were counted.
        """
        align, lipschitz = self._calls.get(ALIGN), 0.0
        if align is None or not align.done() or align.exception():
            raise out_of_order("the end of a run before the alignment")
        if self.guard is not None:
            self.schedule.finish()
            lipschitz = await self.role.save(self.run)
        self._saved = True
        return lipschitz

    def check_saved(self) -> None:
        """Check that this party has saved its part: only then is the run over.

        Raises:
            PolicyRefusal: it has not.
        """
        if not self._saved:
            raise out_of_order("the end of a run that this party has not saved")

    @property
    def schedule(self) -> ScheduleGuard:
        """What accepts the calls of the schedule in their order.

        Raises:
            PartyRestarted: nothing was agreed on yet.
            PolicyRefusal: training has not begun, or a phase has failed.
        """
        if self.guard is None:
            raise not_prepared()
        if not self._begun:
            raise out_of_order("a step before the initial weights")
        if self._failed:
            raise out_of_order("more of an attempt of which a phase has failed")
        return self.guard

    @property
    def role(self) -> RoleWorker:
        """The role that does the work.

        Raises:
            PartyRestarted: the job has not been accepted yet.
        """
        if self._role is None:
            raise not_prepared()
        return self._role

    @property
    def doing(self) -> str:
        """The work in progress, in words; empty if none."""
        return self.where if any(not task.done() for task in self._calls.values()) else ""

    @property
    def setup_key(self) -> StepKey:
        """The key that addresses messages before the first step."""
        return StepKey(self.run, SETUP_STEP, self.number)

    @property
    def interruption(self) -> str:
        """Why another attempt has to follow, in words."""
        reason = self.error.summary if self.error else "the coordinator began another attempt"
        return f"{self.where}: {printable(reason)}"

    def check_current(self, run: str, number: int) -> None:
        """Check that a call belongs to this attempt.

        Raises:
            PartyRestarted: this party does not know the attempt yet.
            ProtocolError: the attempt is over; another coordinator has taken over the run.
        """
        if run != self.run or number > self.number:
            raise not_prepared()
        if number < self.number:
            raise superseded()

    def alive(self, call: m.Heartbeat, party: str) -> m.Alive:
        """Report what this party is doing; record which parties make progress."""
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
        """Do the work of a call, after that of earlier calls; a repeated call gets the same reply or error.

        Raises:
            PolicyRefusal: too many calls wait for their turn.
        """
        if key not in self._calls:
            done = [known for known, task in self._calls.items() if task.done() and known not in SETUP_CALLS]
            if len(self._calls) - len(done) >= REMEMBERED_CALLS:
                raise out_of_order("more calls at once than it needs")
            for known in done[: max(0, len(self._calls) + 1 - REMEMBERED_CALLS)]:
                del self._calls[known]
            self.where = where
            self._calls[key] = start_awaited(self._guarded(work))
            self._calls[key].add_done_callback(_mark_retrieved)
        try:
            # A caller that gives up must not stop work that a repeated call will request again.
            reply: Reply = await asyncio.shield(self._calls[key])
        except asyncio.CancelledError:
            if self._over:
                raise superseded() from None
            raise
        return reply

    def end(self) -> None:
        """Stop all work. Arithmetic running in a thread finishes on its own, and its result is discarded."""
        self._over = True
        for task in self._calls.values():
            task.cancel()

    async def _guarded(self, work: Callable[[Attempt], Awaitable[Reply]]) -> Reply:
        count_in(self._progress)
        try:
            async with self._turn:
                reply = await work(self)
        except VflError as error:
            # A model or checkpoint that ran out of memory has raised its own kind of error.
            known: VflError = memory_exhausted(error, self.where) or error
            if not self._over:
                self._keep(known)
            raise known from error.__cause__
        except Exception as error:
            exhausted = memory_exhausted(error, self.where)
            known = exhausted or InternalError(
                f"an internal error stopped {self.where}",
                remedy="report the stack trace in this party's log",
            )
            log = _log.debug if exhausted else _log.error  # nobody but the operator of this party can see a trace
            log("stack trace", where=self.where, exc_info=error)
            self._keep(known)
            raise known from error
        if not self._over:
            self.error = None
        return reply

    def _keep(self, error: VflError) -> None:
        """Keep an error to be shown by whatever ends the run, or by the next attempt."""
        _log.debug("failed", where=self.where, error=str(error), code=error.code, exc_info=error.__cause__)
        error.will_be_shown = True
        self.error = self.error or error


def _mark_retrieved(task: asyncio.Future[Any]) -> None:
    """Mark the error as retrieved: the coordinator may be gone and never collect it, but it is kept and logged."""
    if not task.cancelled():
        task.exception()
