"""A member whose calls are refused without end fills neither the log nor, through the records of them, the disk."""

import asyncio
import time
from types import SimpleNamespace

import grpc
import pytest
from support.logs import captured_logs, logged

from vfl.errors import ProtocolError
from vfl.runtime.log_limits import MAX_LINES
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.wire import failures
from vfl.transport.wire.failures import PACED_AFTER, abort_call, caller_of

DELIVER = "/vfl.transport.v1.Data/Deliver"


async def test_a_flood_of_refused_calls_leaves_a_few_lines_and_is_slowed_down(serving_tls, calling, monkeypatch):
    monkeypatch.setattr(failures, "PACE_SECONDS", 0.5)
    refused, seconds = 0, []

    async def flood(channel):
        nonlocal refused
        while refused < PACED_AFTER + 100:
            begin = time.monotonic()
            with pytest.raises(grpc.aio.AioRpcError, match="without a header"):
                await channel.stream_unary(DELIVER)(iter(()), timeout=20)
            refused += 1
            seconds.append(time.monotonic() - begin)

    async with serving_tls() as endpoint, secure_channel(calling("shop"), endpoint, "bank", []) as channel:
        with captured_logs() as logs:
            await asyncio.gather(*(flood(channel) for _ in range(20)))
        failed = [entry for entry in logs if entry["event"] == "call failed"]
        assert len(failed) <= 4 * MAX_LINES, "in at most four periods"
        assert sum(took >= 0.5 for took in seconds) >= 80
        async with secure_channel(calling("telco"), endpoint, "bank", []) as other:
            with captured_logs() as logs, pytest.raises(grpc.aio.AioRpcError):
                await other.stream_unary(DELIVER)(iter(()), timeout=20)
            assert "without a header" in logged(logs), "others are logged as before"


async def test_who_hangs_up_does_not_shorten_the_pause():
    begin = time.monotonic()
    pausing = asyncio.ensure_future(failures._pause(0.5))
    await asyncio.sleep(0.05)
    pausing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pausing
    assert time.monotonic() - begin >= 0.49


class _Context(SimpleNamespace):
    def peer(self):
        return self.address

    def auth_context(self):
        return self.properties

    async def abort(self, *_):
        raise RuntimeError


@pytest.mark.parametrize(
    ("address", "properties", "name"),
    [
        ("ipv4:10.1.2.3:4000", {"peer_uri": [b"vfl:demo/shop"]}, "vfl:demo/shop"),
        ("ipv4:10.1.2.3:4000", {"peer_uri": [b"\x1b[31m" + b"x" * 500]}, " [31m" + "x" * 145),
        ("ipv4:10.1.2.3:4000", {}, "ipv4:10.1.2.3"),
        ("ipv6:%5B::1%5D:4000", {}, "ipv6:[::1]"),
        ("unix:", {}, "unix"),
    ],
)
def test_callers_are_told_apart_by_their_certificate_or_address(address, properties, name):
    assert caller_of(_Context(address=address, properties=properties)) == name


async def test_a_defect_that_somebody_can_repeat_is_bounded_too():
    context = _Context(address="ipv4:10.1.2.9:4000", properties={})
    with captured_logs() as logs:
        for number in range(3 * MAX_LINES):
            error = ValueError("a defect") if number % 2 else ProtocolError("refused")
            with pytest.raises(RuntimeError):
                await abort_call(context, error, "bank")
    assert len(logs) == MAX_LINES
