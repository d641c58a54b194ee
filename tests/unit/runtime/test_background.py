"""Work in the background: a failure is logged and reported, and nothing is left running."""

import asyncio

import pytest
from support.logs import captured_logs

from vfl.runtime.background import start, together


async def _fail():
    raise ValueError("broken")


async def test_a_failure_that_nobody_awaits_is_logged_and_reported():
    reported = []
    with captured_logs() as logs:
        await asyncio.wait({start(_fail(), failed=reported.append)})
        await asyncio.sleep(0)
    assert [str(error) for error in reported] == ["broken"]
    assert [event["event"] for event in logs] == ["background work failed"]
    assert logs[0]["work"] == "_fail"
    assert "ValueError: broken" in logs[0]["exception"]


async def test_canceled_work_is_no_failure():
    reported = []
    with captured_logs() as logs:
        task = start(asyncio.sleep(60), failed=reported.append)
        task.cancel()
        await asyncio.wait({task})
        await asyncio.sleep(0)
    assert (reported, logs) == ([], [])


async def test_the_others_are_over_before_the_first_failure_is_raised():
    over = []

    async def wait():
        try:
            await asyncio.sleep(60)
        finally:
            over.append(True)

    with pytest.raises(ValueError, match="broken"):
        await together(wait(), _fail(), wait())
    assert over == [True, True]


async def test_results_come_in_the_order_of_the_work():
    assert await together(asyncio.sleep(0.01, "a"), asyncio.sleep(0, "b")) == ["a", "b"]
