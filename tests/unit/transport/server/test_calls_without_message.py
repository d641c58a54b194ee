"""Calls that send their headers and then nothing, from a caller that wants to keep the others out."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import grpc
import pytest
from support.federations.waiting import eventually
from support.logs import captured_logs, logged

from vfl import messages as m
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.server.gate import Gate
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.wire.limits import MAX_CALLS_OF_ONE, MAX_RELAYED_OF_PAIR

FINISH = m.Finish("job@1", "job-1", 0)
CALLS = 620
"""More than all honest parties together may have."""
CONTROL, HEALTH = "/vfl.transport.v1.Control/", "/grpc.health.v1.Health/"
METHODS = [
    *(f"{CONTROL}{call}" for call in ("Prepare", "RunPhase", "Heartbeat", "Abort", "Release")),
    f"{HEALTH}Check",
    f"{HEALTH}Watch",
    "/vfl.transport.v1.Data/Deliver",
    "/vfl.transport.v1.Relay/Accept",
    "/vfl.transport.v1.Relay/Connect",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
]


@pytest.fixture
def strangers(issuer):
    revoked = issuer.files("telco")
    issuer.revoke(revoked)
    return {"revoked": revoked, "no-identity": issuer.files("telco", identities=(), role="")}


@asynccontextmanager
async def silent_calls(endpoint, credentials, methods=METHODS, count=CALLS):
    """So many calls of one caller over several connections and methods; gives the codes of those that ended."""
    ended, calls = Counter(), []

    async def nothing():
        await asyncio.sleep(600)
        yield b""

    async def call(channel, number):
        opened = channel.stream_stream(methods[number % len(methods)])(nothing())
        ended[await opened.code()] += 1

    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [secure_channel(credentials, endpoint, "bank", options) for _ in range(8)]
    try:
        calls += [asyncio.create_task(call(channels[number % 8], number)) for number in range(count)]
        yield ended
    finally:
        for task in calls:
            task.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        for channel in channels:
            await channel.close()


async def others_are_served(endpoint, calling, share, inbox):
    async with (
        asyncio.timeout(5),
        ControlClient(endpoint, "bank", calling("hub")) as hub,
        PeerClient(endpoint, "bank", calling("telco")) as telco,
    ):
        await hub.wait_ready(5)
        assert (await hub.finish(FINISH)).party == "bank"
        await telco.deliver(*share(sender="telco"), 5)
        assert await inbox.take(share(sender="telco")[0], 1, "a test") is not None


async def test_silent_calls_of_one_member_are_bounded_and_keep_nobody_out(serving_tls, calling, share, inbox):
    async with serving_tls() as endpoint:
        with captured_logs() as logs:
            async with silent_calls(endpoint, calling("shop"), [f"{HEALTH}Check", f"{CONTROL}Heartbeat"]) as ended:
                await eventually(lambda: ended.total() >= CALLS - MAX_CALLS_OF_ONE)
                await others_are_served(endpoint, calling, share, inbox)
                assert ended == {grpc.StatusCode.INVALID_ARGUMENT: CALLS - MAX_CALLS_OF_ONE}
        assert "shop already has 64 calls in progress at bank" in logged(logs)
        async with PeerClient(endpoint, "bank", calling("shop")) as shop:
            await shop.wait_ready(5)


async def test_silent_calls_to_any_method_keep_nobody_out(serving_tls, calling, share, inbox):
    async with serving_tls() as endpoint, silent_calls(endpoint, calling("shop")) as ended:
        await eventually(lambda: ended.total() >= CALLS - MAX_CALLS_OF_ONE - MAX_RELAYED_OF_PAIR)
        await others_are_served(endpoint, calling, share, inbox)


@pytest.mark.parametrize("who", ["revoked", "no-identity"])
async def test_a_caller_that_is_no_member_gets_no_call_at_all(who, serving_tls, calling, strangers, share, inbox):
    async with serving_tls() as endpoint:
        with captured_logs() as logs:
            async with silent_calls(endpoint, calling("telco", strangers[who])) as ended:
                await eventually(lambda: ended.total() == CALLS)
                await others_are_served(endpoint, calling, share, inbox)
                assert ended == {grpc.StatusCode.PERMISSION_DENIED: CALLS}
        refused = [entry for entry in logs if entry["event"] == "caller refused"]
        assert {entry["reason"] for entry in refused} == {"revoked" if who == "revoked" else "identity"}
        assert all("CN=telco" in entry["subject"] for entry in refused if who == "revoked")


async def test_a_call_whose_message_does_not_come_ends(serving_tls, calling, monkeypatch):
    monkeypatch.setattr(Gate.__init__, "__defaults__", (frozenset(), 0.3))
    async with serving_tls() as endpoint:
        with captured_logs() as logs:
            methods, few = [f"{CONTROL}RunPhase", f"{HEALTH}Watch"], 10  # not so many that only their number is logged
            async with silent_calls(endpoint, calling("shop"), methods, few) as ended:
                await eventually(lambda: ended.total() == few)
        assert "a call of shop sent no message within 0.3 s" in logged(logs)


@pytest.mark.parametrize(("chunks", "says"), [([], "without a message"), ([b"\xff\xff"], "an unreadable message")])
async def test_a_call_needs_one_readable_message(serving_tls, calling, chunks, says):
    async with serving_tls() as endpoint, secure_channel(calling("hub"), endpoint, "bank", []) as channel:
        for method in (f"{CONTROL}Finish", f"{HEALTH}Check"):
            with pytest.raises(grpc.aio.AioRpcError, match=says) as caught:
                await channel.stream_unary(method)(iter(chunks), timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
