"""How long a party serves one run: until it finishes, someone stops it, or the coordinator goes silent."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from vfl.errors import WHAT_TO_DO, CheckpointError, InternalError, JobAborted, MismatchError, ProcessEnding, VflError
from vfl.job.tables import TimeoutConfig
from vfl.messages import Abort, Prepare
from vfl.party.peers.exchange_driver import SHOWN_EVERY_SECONDS
from vfl.party.service.attempt import Attempt
from vfl.party.service.coordinator_timeout import coordinator_lost, coordinator_timeout
from vfl.party.service.preparation import check_call
from vfl.runtime.clock import loop_time
from vfl.runtime.foreign_text import MAX_CHARACTERS, printable
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")

WATCH_SECONDS = 0.5


class Lifetime:
    """The period from when a party starts waiting for a run until the run is over at that party.

    Args:
        timeouts: the job's timeouts.
        attempt: returns the current attempt; None before the first.
        on_end: called once with the error that ended the run, if any, before ``outcome`` is set.
        keep_serving: wait for a run indefinitely.

    Attributes:
        outcome: set when the run ends at this party: None if it finished, else the error that ended it.
    """

    def __init__(
        self,
        timeouts: TimeoutConfig,
        attempt: Callable[[], Attempt | None],
        on_end: Callable[[VflError | None], None],
        *,
        keep_serving: bool,
    ) -> None:
        self._timeouts = timeouts
        self._attempt = attempt
        self._on_end = on_end
        self._keep_serving = keep_serving
        self._refusal: tuple[str, VflError] | None = None
        self._last_call = loop_time()
        self._coordinator_knows = asyncio.Event()
        self.outcome: asyncio.Future[VflError | None] = asyncio.get_running_loop().create_future()

    def called(self) -> None:
        """Record that the coordinator called."""
        self._last_call = loop_time()
        if self.outcome.done():
            self._coordinator_knows.set()

    def raise_if_stopped(self) -> None:
        """Raise the error that ended the run, if any, as the reply to a call."""
        if self.outcome.done() and (error := self.outcome.result()) is not None:
            self._coordinator_knows.set()
            raise error

    def end(self, error: VflError | None) -> None:
        """End the run at this party; later calls have no effect."""
        if not self.outcome.done():
            try:
                self._on_end(error)
            finally:
                self.outcome.set_result(error)

    async def end_released(self) -> None:
        """End a run that has finished; as a task, so that the reply to the coordinator goes first."""
        self.end(None)

    def aborted(self, call: Abort) -> None:
        """End the run because the coordinator has stopped it."""
        reason = printable(call.reason, 3 * MAX_CHARACTERS)  # a summary and a remedy
        self._coordinator_knows.set()
        attempt = self._attempt()
        own = attempt.error if attempt else self._refusal[1] if self._refusal and self.has_refused(call.run) else None
        if own is not None and own.code == CheckpointError.code and call.code == JobAborted.code:
            # The run would have survived it: the operator of the coordinator, say, stopped it meanwhile.
            _log.warning("a checkpoint failed before the run was stopped", reason=str(own), code=own.code)
            own = None
        # Whoever started this party shows the error the run ends with; any other reason would be lost.
        log = _log.error if own is not None and own.summary not in reason else _log.debug
        where = attempt.where if attempt else "before the run began"
        if own is not None and own.summary in reason and (remedy := reason.partition(WHAT_TO_DO)[2]):
            own.remedy = remedy  # the coordinator also knows which checkpoint is kept
        log("run stopped", origin=printable(call.origin), code=printable(call.code), reason=reason, where=where)
        self.end(own or JobAborted(f"the run was stopped: {reason}"))

    def check(self, call: Prepare, digest: str) -> None:
        """Check that a run is one of this party's job. If it is not and is given up, a waiting party ends with this.

        Args:
            digest: digest of this party's job and federation.

        Raises:
            ProtocolError, MismatchError: see ``check_call``.
        """
        try:
            check_call(call, digest)
        except MismatchError as error:
            self.refused(call.run, error)
            raise

    def refused(self, run: str, error: VflError) -> None:
        """Remember why a run cannot begin here: if it is given up, a waiting party ends with this."""
        if self._attempt() is None:
            self._refusal = run, error

    def has_refused(self, run: str) -> bool:
        """Whether this run is the latest that could not begin here."""
        return self._refusal is not None and self._refusal[0] == run

    def failed(self, error: Exception) -> None:
        """End the run because work that this class relies on has failed: nobody else would end it."""
        known = InternalError(
            "an internal error stopped the monitoring of the run", remedy="report the stack trace in its log"
        )
        self.end(error if isinstance(error, VflError) else known)

    def stop(self) -> None:
        """End the run for all parties at the request of this party's operator."""
        self._leave(JobAborted(f"stopped by its operator {self._when}"))

    def go_away(self) -> None:
        """End this process but not the run, which resumes once the process has been restarted."""
        begun = self._attempt() is not None
        remedy = "restart it: the run waits for it for timeouts.reconnect seconds" if begun else "restart it"
        self._leave(ProcessEnding(f"its process was shut down {self._when}", remedy=remedy))

    @property
    def _when(self) -> str:
        attempt = self._attempt()
        return f"during {attempt.where}" if attempt else "before a run began"

    def _leave(self, error: VflError) -> None:
        """End the run; the coordinator learns of it from the reply to the current or next call."""
        _log.warning("stopping", reason=error.summary)
        self.end(error)

    async def last_words(self, seconds: float) -> None:
        """Wait up to this long for a call from the coordinator, whose reply says why this party stops."""
        if self._attempt() is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._coordinator_knows.wait(), seconds)

    async def watch(self) -> None:
        """End the run when the coordinator is silent for longer than the job's timeouts allow."""
        while not self.outcome.done():
            await asyncio.sleep(WATCH_SECONDS)
            attempt = self._attempt()
            if attempt is None and self._keep_serving:
                continue
            limit, silent = coordinator_timeout(self._timeouts, attempt), loop_time() - self._last_call
            if (
                attempt is not None
                and silent > self._timeouts.heartbeat
                and silent % SHOWN_EVERY_SECONDS < WATCH_SECONDS
            ):
                _log.warning("waiting for the coordinator", seconds=round(silent), gives_up_after=limit)
            if silent > limit:
                error = coordinator_lost(limit, attempt)
                if attempt is None and self._refusal is not None:
                    error.detail = f"the latest run that called was refused: {self._refusal[1].summary}"
                self._coordinator_knows.set()  # or is not there to be informed
                self.end((attempt.error if attempt else None) or error)
