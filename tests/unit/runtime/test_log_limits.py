"""What others can make happen as often as they like fills no disk with lines, and is counted."""

import asyncio

from support.logs import captured_logs
from support.virtual_time import in_virtual_time

from vfl.runtime.log_limits import MAX_LINES, MAX_SOURCES, OTHERS, PERIOD_SECONDS, LimitedLog
from vfl.runtime.logs import get_logger


def limited():
    return LimitedLog(get_logger("vfl.test"), "more of it")


@in_virtual_time
async def test_of_a_flood_the_first_lines_are_logged_and_then_how_many_there_were():
    log = limited()
    with captured_logs() as logs:
        for number in range(1000):
            assert log("warning", "refused", "shop", number=number) == number + 1
        log("warning", "refused", "telco", number=0)
        assert [entry["number"] for entry in logs] == [*range(MAX_LINES), 0]
        await asyncio.sleep(PERIOD_SECONDS + 1)
    last = logs[-1]
    assert len(logs) == MAX_LINES + 2
    assert (last["event"], last["source"], last["count"]) == ("more of it", "shop", 1000 - MAX_LINES)


@in_virtual_time
async def test_a_flood_that_lasts_is_reported_once_in_a_period_and_a_quiet_source_is_heard_again():
    log = limited()
    with captured_logs() as logs:
        for _ in range(100):
            for _ in range(50):
                log("warning", "refused", "shop")
            await asyncio.sleep(PERIOD_SECONDS / 10)
        assert len(logs) <= 11 * (MAX_LINES + 1)
        await asyncio.sleep(3 * PERIOD_SECONDS)
        reported = sum(entry["count"] for entry in logs if entry["event"] == "more of it")
        assert reported + sum(entry["event"] == "refused" for entry in logs) == 5000
        logs.clear()
        log("warning", "refused", "shop")
        assert len(logs) == 1


@in_virtual_time
async def test_any_number_of_sources_is_bounded_too():
    log = limited()
    with captured_logs() as logs:
        for number in range(10_000):
            log("warning", "refused", f"address {number}")
        await asyncio.sleep(PERIOD_SECONDS + 1)
    assert len(logs) == MAX_SOURCES + MAX_LINES + 1
    assert (logs[-1]["source"], logs[-1]["count"]) == (OTHERS, 10_000 - MAX_SOURCES - MAX_LINES)
