"""The loop with which tests skip waiting: timers keep their order, and threads are waited for."""

import asyncio
import time

import pytest
from support.virtual_time import in_virtual_time

from vfl.runtime.clock import loop_time

HOUR = 3600.0


@in_virtual_time
async def test_hours_pass_at_once_and_in_order():
    started, order = time.monotonic(), []

    async def after(hours):
        await asyncio.sleep(hours * HOUR)
        order.append((hours, round(loop_time() - began)))

    began = loop_time()
    await asyncio.gather(after(3), after(1), after(2))
    assert order == [(hours, hours * HOUR) for hours in (1, 2, 3)]
    assert time.monotonic() - started < HOUR / 60


@in_virtual_time
async def test_a_deadline_passes_where_nothing_happens():
    began = loop_time()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(HOUR):
            await asyncio.get_running_loop().create_future()
    assert loop_time() - began == pytest.approx(HOUR, abs=1)


@in_virtual_time
async def test_no_time_is_skipped_while_a_thread_works():
    async with asyncio.timeout(HOUR):
        assert await asyncio.to_thread(lambda: time.sleep(0.05) or "done") == "done"
    given_up = asyncio.get_running_loop().run_in_executor(None, time.sleep, 0.05)
    given_up.cancel()
    began = loop_time()
    await asyncio.sleep(0.01)
    assert loop_time() - began < HOUR


@in_virtual_time
async def test_a_thread_may_wait_by_the_clock_of_the_loop():
    loop, began = asyncio.get_running_loop(), loop_time()
    await asyncio.gather(asyncio.to_thread(loop.sleep, HOUR), asyncio.sleep(HOUR / 2))
    assert loop_time() - began == pytest.approx(HOUR, abs=1)
