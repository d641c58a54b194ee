"""An event loop that skips waiting: what takes a minute of deadlines and pauses takes no time to test.

Its clock runs as usual while there is something to do. When nothing can happen before the next timer, the clock moves
to that timer at once. Work in threads is something to do. So is an open socket: then the loop waits as others do.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import selectors
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """``asyncio.run`` in such a loop."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(work)


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, run in such a loop."""

    @functools.wraps(test)
    def wrapped(*arguments: Any, **named: Any) -> None:
        run(test(*arguments, **named))

    return wrapped


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See above. Only what reads the loop's own clock sees the time that was skipped."""

    def __init__(self) -> None:
        self._skipped = 0.0
        self._at_work = 0
        self._threads = ThreadPoolExecutor(thread_name_prefix="virtual-time")
        super().__init__(_SkippingSelector(self))

    def time(self) -> float:
        """Seconds on the clock of this loop."""
        return super().time() + self._skipped

    @property
    def must_wait(self) -> bool:
        """Whether something that takes time of its own is going on."""
        return self._at_work > 0 or len(self._selector.get_map()) > 1  # one is the loop's own, to be woken by

    def skip(self, seconds: float) -> None:
        """Move the clock."""
        self._skipped += seconds

    def run_in_executor(
        self, executor: Executor | None, func: Callable[..., Result], *args: Any
    ) -> asyncio.Future[Result]:
        """As in every loop."""
        work = (executor or self._threads).submit(func, *args)
        self._at_work += 1
        waiting = asyncio.wrap_future(work, loop=self)
        # Added last, this is called when the loop has already been told of the result.
        work.add_done_callback(lambda _: self._tell_done())
        return waiting

    def _tell_done(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.call_soon_threadsafe(self._one_done)

    def _one_done(self) -> None:
        self._at_work -= 1

    def sleep(self, seconds: float) -> None:
        """Called in a thread of this loop's executor: it waits for so many seconds of the loop's clock."""
        over = threading.Event()

        def fall_asleep() -> None:
            self._at_work -= 1
            self.call_later(seconds, wake_up)

        def wake_up() -> None:
            self._at_work += 1
            over.set()

        self.call_soon_threadsafe(fall_asleep)
        over.wait()

    async def shutdown_default_executor(self, *_: object) -> None:
        """Wait for the threads, whatever the clock says."""
        self._threads.shutdown()


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: VirtualTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = super().select(0)
        if events or timeout is None or timeout <= 0:
            return events or super().select(timeout)
        if self._loop.must_wait:
            return super().select(timeout)
        self._loop.skip(timeout)
        return []
