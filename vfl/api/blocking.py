"""Runs asynchronous work from ordinary code, also where an event loop runs already, as in a notebook."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from vfl.runtime.background import start_awaited

Result = TypeVar("Result")


def run_blocking(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """The result of ``work``, run to its end on an event loop of its own.

    Ctrl-C cancels the work, which then has time to notify the other organizations, and raises KeyboardInterrupt.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return _in_thread(work)


def _in_thread(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """A notebook's thread has a loop that cannot wait for another one, so the work gets a thread of its own."""
    results: list[Result] = []
    errors: list[BaseException] = []
    started: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Result]]] = []

    async def noted() -> Result:
        task = start_awaited(work())
        started.append((asyncio.get_running_loop(), task))
        return await task

    def run() -> None:
        try:
            results.append(asyncio.run(noted()))
        except BaseException as error:  # noqa: BLE001  # carried over to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="vfl", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for loop, task in started:
            loop.call_soon_threadsafe(task.cancel)
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]
