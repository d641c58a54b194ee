"""The clock that deadlines are measured by."""

from __future__ import annotations

import asyncio


def loop_time() -> float:
    """Seconds on the clock of the running event loop, which also measures its timers; unrelated to the time of day."""
    return asyncio.get_running_loop().time()
