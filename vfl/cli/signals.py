"""How SIGINT and SIGTERM reach what a command does: as the result of a future, never as an exception in its middle."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from vfl.party.service.stopping import StopReason

Result = TypeVar("Result")

_REASONS = {
    signal.SIGINT: StopReason.OPERATOR,
    # SIGTERM is how service managers, containers and machines that restart end a process, to start it again.
    signal.SIGTERM: StopReason.PROCESS_ENDING,
}


async def until_signal(work: Callable[[asyncio.Future[StopReason]], Awaitable[Result]]) -> Result:
    """Do ``work`` with a future that gets a result with the first signal."""
    loop = asyncio.get_running_loop()
    stopping: asyncio.Future[StopReason] = loop.create_future()

    def note(reason: StopReason) -> None:
        if not stopping.done():
            stopping.set_result(reason)

    for number, reason in _REASONS.items():
        loop.add_signal_handler(number, note, reason)
    try:
        return await work(stopping)
    finally:
        for number in _REASONS:
            loop.remove_signal_handler(number)
