"""Logs of what others can make happen as often as they like: the first of each source, then only how many."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from vfl.runtime.background import start
from vfl.runtime.clock import loop_time

MAX_LINES = 20
"""Events of one source that are logged in a period."""
PERIOD_SECONDS = 10.0
MAX_SOURCES = 64
"""Sources that are told apart in a period; all others are one."""
OTHERS = "others"


class _Source:
    def __init__(self) -> None:
        self.count = 0
        self.latest = ""


class LimitedLog:
    """Logs events of each source, but in a period no more than a few; at its end, how many were left out.

    Args:
        log: where they are logged.
        what: the event that tells how many were left out.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger, what: str) -> None:
        self._log = log
        self._what = what
        self._sources: dict[str, _Source] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ends = 0.0

    def __call__(self, level: str, event: str, source: str, **fields: Any) -> int:
        """Log an event, or only count it. Outside an event loop, where no others call, each is logged.

        Args:
            level: name of the method of the logger.
            source: whose doing it is.

        Returns:
            How many events of this source there were in this period.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            getattr(self._log, level)(event, **fields)
            return 1
        self._begin(loop)
        if source not in self._sources and len(self._sources) >= MAX_SOURCES:
            source = OTHERS
        state = self._sources.setdefault(source, _Source())
        state.count, state.latest = state.count + 1, event
        if state.count <= MAX_LINES:
            getattr(self._log, level)(event, **fields)
        return state.count

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._loop is loop and self._sources and loop_time() < self._ends:
            return
        if self._loop is loop:
            self._report()
        self._sources, self._loop, self._ends = {}, loop, loop_time() + PERIOD_SECONDS
        start(self._report_at_the_end(self._sources))

    async def _report_at_the_end(self, sources: dict[str, _Source]) -> None:
        await asyncio.sleep(PERIOD_SECONDS)
        if self._sources is sources:
            self._report()
            self._sources = {}

    def _report(self) -> None:
        for source, state in self._sources.items():
            if state.count > MAX_LINES:
                more = state.count - MAX_LINES
                self._log.warning(self._what, source=source, count=more, latest=state.latest, seconds=PERIOD_SECONDS)
