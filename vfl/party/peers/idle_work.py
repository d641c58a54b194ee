"""Generates random material in advance while this party waits for a peer's message."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context

from vfl.he.pool import Pools

_NICENESS = 10
"""Other processes on this machine, such as a peer in a demo, take priority."""


class IdleWork:
    """Fills pools in its own thread, only while ``waiting``, one item at a time."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools
        self._change = threading.Condition()
        self._idle = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Context in which this party has nothing else to do."""
        self._set_idle(True)
        try:
            yield
        finally:
            self._set_idle(False)

    def close(self) -> None:
        """Stop permanently and discard unused material. Waits some milliseconds for the item being made.

        Every ``IdleWork`` must be closed: a process crashes at interpreter exit if a thread is still inside torch.
        """
        with self._change:
            self._closed = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join()
        self._pools.close()

    def _set_idle(self, idle: bool) -> None:
        with self._change:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(
                    target=copy_context().run, args=(self._run,), name="idle-work", daemon=True
                )
                self._thread.start()
            self._idle = idle
            self._change.notify()

    def _run(self) -> None:
        if sys.platform == "linux":
            thread = threading.get_native_id()
            # Only root may lower the niceness that the operator set for the process.
            niceness = max(_NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
            os.setpriority(os.PRIO_PROCESS, thread, niceness)
        while self._may_work():
            if not self._pools.fill_one():
                # Full: nothing to do until an item is taken, which happens only after the wait.
                with self._change:
                    self._idle = False

    def _may_work(self) -> bool:
        """Wait for idle time; False once closed."""
        with self._change:
            self._change.wait_for(lambda: self._idle or self._closed)
            return not self._closed
