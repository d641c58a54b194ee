"""How long a party serves one run: until it has finished, somebody stops it, or the coordinator is not heard of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from vfl.errors import JobAborted, ProcessEnding, VflError
from vfl.job.config import TimeoutConfig
from vfl.messages import Abort
from vfl.party.peers.exchange_driver import SHOWN_EVERY_SECONDS
from vfl.party.service.attempt import Attempt
from vfl.party.service.coordinator_timeout import coordinator_lost, coordinator_timeout
from vfl.runtime.clock import loop_time
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")

WATCH_SECONDS = 0.5


class Lifetime:
    """The time from the moment a party waits for a run until that run is over for it.

    Args:
        timeouts: of the job.
        attempt: the one that the party works on; None before the first.
        on_end: called once, with what ended it, before anybody else learns of it.
        keep_serving: wait for a run indefinitely.

    Attributes:
        outcome: set when the run ends here: None when it finished, else the error that ended it.
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
        self._refusal: VflError | None = None
        self._last_call = loop_time()
        self._coordinator_knows = asyncio.Event()
        self.outcome: asyncio.Future[VflError | None] = asyncio.get_running_loop().create_future()

    def called(self) -> None:
        """The coordinator is there."""
        self._last_call = loop_time()
        if self.outcome.done():
            self._coordinator_knows.set()

    def raise_if_stopped(self) -> None:
        """Answer a call with what ended the run, if an error did."""
        if self.outcome.done() and (error := self.outcome.result()) is not None:
            self._coordinator_knows.set()
            raise error

    def end(self, error: VflError | None) -> None:
        """The run is over here; what comes later changes nothing."""
        if not self.outcome.done():
            self._on_end(error)
            self.outcome.set_result(error)

    def aborted(self, call: Abort) -> None:
        """The coordinator has stopped the run."""
        self._coordinator_knows.set()
        attempt = self._attempt()
        own = attempt.error if attempt else self._refusal
        # What the run ends with is shown by whoever started this party; another reason would be lost.
        log = _log.error if own is not None and own.summary not in call.reason else _log.debug
        where = attempt.where if attempt else "before the run began"
        log("run stopped", origin=call.origin, code=call.code, reason=call.reason, where=where)
        self.end(own or JobAborted(f"the job was stopped: {call.reason}"))

    def refused(self, error: VflError) -> None:
        """A run could not begin here; if the coordinator then stops it, this is what this party ends with."""
        self._refusal = error

    def stop(self) -> None:
        """End the run for all, because the operator of this party wants it."""
        self._leave(JobAborted(f"stopped by its operator {self._when}"))

    def go_away(self) -> None:
        """End this process and not the run, which resumes when the process has been started again."""
        remedy = "start it again: the run waits for it for timeouts.reconnect seconds"
        self._leave(ProcessEnding(f"its process was told to end {self._when}", remedy=remedy))

    @property
    def _when(self) -> str:
        attempt = self._attempt()
        return f"during {attempt.where}" if attempt else "before a job began"

    def _leave(self, error: VflError) -> None:
        """The coordinator learns it from the call in progress, or by the next."""
        _log.warning("stopping", reason=error.summary)
        self.end(error)

    async def last_words(self, seconds: float) -> None:
        """Wait at most so long until the coordinator has heard why this party stops, by a call it makes."""
        if self._attempt() is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._coordinator_knows.wait(), seconds)

    async def watch(self) -> None:
        """End the run when no coordinator calls for longer than the job's timeouts allow."""
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
                _log.warning("waiting for the coordinator", seconds=round(silent), given_up_after=limit)
            if silent > limit:
                error = coordinator_lost(limit, attempt)
                self._coordinator_knows.set()  # or is not there to hear it
                self.end((attempt.error if attempt else None) or error)
