"""Members in one process: only the bytes are missing. What a real network refuses or breaks, this one does too."""

import asyncio
from contextlib import AsyncExitStack

import numpy as np
import pytest
from support.fixtures.servers import RecordingHandler, make_federation

from vfl import messages as m
from vfl.errors import AccessDenied, DataError, DeadlineExceeded, PeerUnreachable, ProtocolError, RemoteError
from vfl.ids import Address, StepKey
from vfl.transport.channels import PartyEnd
from vfl.transport.in_memory import InMemoryNetwork
from vfl.transport.inbox import Inbox
from vfl.transport.wire.recorder import Direction
from vfl.transport.wire.traffic import Traffic, TrafficMeter

STEP = StepKey("run-1", 1, 0)
FINISH = m.Finish("job@1", "run-1", 0)


class Records:
    def __init__(self):
        self.kept = []

    def record(self, record):
        self.kept.append(record)


@pytest.fixture
async def bank():
    """Bank answers in memory: its network, handler, inbox, traffic and records."""
    network, handler, inbox, traffic, records = (
        InMemoryNetwork(make_federation()), RecordingHandler(), Inbox(), TrafficMeter(), Records()
    )  # fmt: skip
    inbox.open_run("run-1", 0, {"shop", "telco"})
    async with AsyncExitStack() as stack:
        await network.serve(stack, PartyEnd("bank", handler, inbox, traffic, records))
        yield network, handler, inbox, traffic, records, stack


def share(fill=1):
    return m.ForwardShare(np.full((3, 2), fill, dtype=np.int64))


def address():
    return Address(STEP, "forward_share", "shop")


async def test_a_message_arrives_as_it_was_and_belongs_to_its_receiver(bank):
    network, _, inbox, received, records, stack = bank
    sent, own = TrafficMeter(), Records()
    shop = await network.peer(stack, "shop", "bank", sent, own)
    message = share()
    await shop.deliver(address(), message, 1.0)
    message.sh_z_BK[:] = 9
    taken = await inbox.take(address(), 1.0, "a test")
    assert taken.sh_z_BK.tolist() == [[1, 1]] * 3
    assert sent.by_peer("run-1") == {"bank": Traffic(sent=48)}
    assert received.by_peer("run-1") == {"shop": Traffic(received=48)}
    (left,), (arrived,) = own.kept, records.kept
    assert (left.direction, arrived.direction) == (Direction.SENT, Direction.RECEIVED)
    assert left.digest == arrived.digest


@pytest.mark.parametrize(
    ("sender", "message", "code"),
    [
        ("nobody", share(), AccessDenied.code),
        ("shop", m.MaskedActivationGradient(np.zeros((3, 2), dtype=np.int64)), ProtocolError.code),
    ],
    ids=["no member", "a kind that its role never sends"],
)
async def test_a_sender_or_a_route_that_cannot_be_is_refused(bank, sender, message, code):
    network, _, inbox, _, _, stack = bank
    caller = await network.peer(stack, sender, "bank", TrafficMeter(), None)
    with pytest.raises(RemoteError) as raised:
        await caller.deliver(Address(STEP, message.kind, sender), message, 1.0)
    assert raised.value.remote_code == code
    assert inbox.stored_bytes == 0


async def test_an_error_crosses_as_its_safe_part(bank):
    network, handler, _, _, records, stack = bank
    hub = await network.control(stack, "bank", None)
    handler.error = DataError("the table is wrong", detail="/home/bank/table.csv", remedy="correct it")
    with pytest.raises(RemoteError) as raised:
        await hub.finish(FINISH)
    assert (raised.value.party, raised.value.remote_code, raised.value.remote_summary) == (
        "bank", "data", "the table is wrong"
    )  # fmt: skip
    assert "/home" not in str(raised.value)
    handler.error = ZeroDivisionError("a secret")
    with pytest.raises(RemoteError, match="an internal error occurred") as raised:
        await hub.finish(FINISH)
    assert "secret" not in str(raised.value)
    assert [record.kind for record in records.kept] == ["finish", "failure"] * 2


async def test_a_party_that_leaves_breaks_the_calls_that_it_works_on(bank):
    network, handler, _, _, _, stack = bank
    hub = await network.control(stack, "bank", None)
    handler.delay = 30.0
    call = asyncio.create_task(hub.finish(FINISH))
    await handler.called.wait()
    await stack.aclose()
    with pytest.raises(PeerUnreachable, match="bank went away"):
        await call
    with pytest.raises(PeerUnreachable, match="does not answer"):
        await hub.finish(FINISH)
    with pytest.raises(PeerUnreachable, match=r"did not answer within 0\.01 s"):
        await hub.wait_ready(0.01)


async def test_a_call_has_its_timeout_and_can_be_cancelled(bank):
    network, handler, _, _, _, stack = bank
    hub = await network.control(stack, "bank", None)
    handler.delay = 30.0
    with pytest.raises(DeadlineExceeded, match=r"bank did not complete 'align' within 0\.01 s"):
        await hub.align(m.Align("job@1", "run-1", 0, count_only=False), 0.01)
    call = asyncio.create_task(hub.finish(FINISH))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


class Broken:
    """The line breaks before a call arrives, or after it has been answered."""

    def __init__(self):
        self.at = "before"

    async def before(self, caller, receiver, what):
        if self.at == "before":
            raise PeerUnreachable(f"the line from {caller} to {receiver} broke at {what}")

    async def after(self, caller, receiver, what):
        if self.at == "after":
            raise PeerUnreachable(f"the line from {caller} to {receiver} broke at {what}")


@pytest.mark.parametrize(("at", "calls"), [("before", 0), ("after", 1)])
async def test_a_disturbance_breaks_a_call_before_or_after_it_is_done(bank, at, calls):
    network, handler, _, _, _, stack = bank
    network.disturbance = Broken()
    network.disturbance.at = at
    hub = await network.control(stack, "bank", None)
    with pytest.raises(PeerUnreachable, match="broke at finish"):
        await hub.finish(FINISH)
    assert len(handler.calls) == calls
