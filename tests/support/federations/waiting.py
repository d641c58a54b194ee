"""Waiting for what happens soon, and on a busy machine later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_AT_MOST_SECONDS = 30.0


async def eventually(condition: Callable[[], object]) -> None:
    """Return as soon as it is so.

    Raises:
        TimeoutError: it was not within half a minute.
    """
    async with asyncio.timeout(_AT_MOST_SECONDS):
        while not condition():  # noqa: ASYNC110  # nobody tells when
            await asyncio.sleep(0.005)
