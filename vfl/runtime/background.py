"""Work beside other work, none of which fails unnoticed.

asyncio mentions the error of a task that nobody awaits when the task is collected as garbage, if at all, and everything
that relied on the task waits indefinitely. So tasks are started here and nowhere else, in one of two ways.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

from vfl.runtime.logs import get_logger

_log = get_logger("vfl")

Result = TypeVar("Result")

_running: set[asyncio.Task[Any]] = set()
"""The event loop itself keeps only weak references to tasks."""


def start(
    work: Coroutine[Any, Any, Result], *, failed: Callable[[Exception], None] | None = None
) -> asyncio.Task[Result]:
    """Start work that nobody awaits. A failure is logged with its stack trace.

    Args:
        failed: called with the error if the work fails, so that what relies on the work can end, too.
    """
    task = asyncio.create_task(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    task.add_done_callback(partial(_report, failed))
    return task


def _report(failed: Callable[[Exception], None] | None, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is None:
        return
    _log.error("background work failed", work=getattr(task.get_coro(), "__qualname__", ""), exc_info=error)
    if failed is not None and isinstance(error, Exception):
        failed(error)


def start_awaited(work: Awaitable[Result]) -> asyncio.Future[Result]:
    """Start work whose result the caller awaits, or which it cancels and awaits, on every path."""
    return asyncio.ensure_future(work)


async def together(*works: Awaitable[Result]) -> list[Result]:
    """The results of all, done concurrently. The first failure is raised, once the others are canceled and over."""
    tasks = [start_awaited(work) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await give_up(*tasks)


async def give_up(*tasks: asyncio.Future[Any]) -> None:
    """Cancel tasks and wait until they are over, whatever their results."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
