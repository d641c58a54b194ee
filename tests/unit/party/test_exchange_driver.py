"""Deliveries go on beside the arithmetic, a few at a time; none is lost, none outlives its exchange, errors surface."""

import asyncio
import gc
import socket
from contextlib import contextmanager

import numpy as np
import pytest
from support.federations.waiting import eventually

from vfl.errors import InternalError, JobAborted, PeerUnreachable, ProtocolError
from vfl.he.pool import Pools
from vfl.ids import Address, StepKey
from vfl.messages import ClearWeights, ForwardShare
from vfl.messages.exchange import Send, receive
from vfl.party.peers.exchange_driver import DELIVERIES_AT_ONCE, ExchangeDriver
from vfl.party.peers.idle_work import IdleWork
from vfl.transport.client import PeerClient
from vfl.transport.inbox import Inbox

JOB, KEY, SECONDS = "job-1", StepKey("job-1", 0, 0), 20.0
PEERS = ("shop", "telco")


class Peer:
    """A peer that takes each message when the test lets it: ``release`` so many, ``fail`` those that are under way."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Future[None]] = []
        self.arrived: list[Address] = []
        self.most = 0
        self.begun = 0
        self.cancelled = 0
        self._another = asyncio.Event()

    async def deliver(self, address: Address, message: object, seconds: float) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self.under_way.append(waiter)
        self._another.set()
        self.begun += 1
        self.most = max(self.most, len(self.under_way))
        try:
            await waiter
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way.remove(waiter)
        self.arrived.append(address)

    def release(self, count: int = 1) -> None:
        for waiter in [waiter for waiter in self.under_way if not waiter.done()][:count]:
            waiter.set_result(None)

    def fail(self, error: Exception) -> None:
        for waiter in self.under_way:
            waiter.set_exception(error)

    async def until_under_way(self, count: int) -> None:
        while len(self.under_way) < count:
            self._another.clear()
            await asyncio.wait_for(self._another.wait(), SECONDS)
        await asyncio.sleep(0.02)


class WatchedIdle(IdleWork):
    """Remembers whether the party waits."""

    def __init__(self) -> None:
        super().__init__(Pools())
        self.waits = 0
        self.now = False

    @contextmanager
    def waiting(self):
        self.waits += 1
        self.now = True
        try:
            yield
        finally:
            self.now = False


@pytest.fixture
def inbox():
    opened = Inbox()
    opened.open_run(JOB, 0, set(PEERS))
    return opened


@pytest.fixture
def idle():
    return WatchedIdle()


@pytest.fixture
def peer():
    return Peer()


@pytest.fixture
async def nothing_left():
    """After the test no task is pending and asyncio has nothing to complain about."""
    complaints: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    yield
    for _ in range(3):
        await asyncio.sleep(0)
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert [task for task in left if "nothing_left" not in repr(task) and "test_" not in repr(task)] == []
    gc.collect()
    assert complaints == []


def _mail(clients, inbox, idle, encrypted=True) -> ExchangeDriver:
    return ExchangeDriver("bank", clients, inbox, idle, SECONDS, encrypted=encrypted)


def _share(fill: int = 0) -> ForwardShare:
    return ForwardShare(np.full((2, 2), fill, dtype=np.int64))


def _sends(count: int, progress: list[int] | None = None, to: tuple[str, ...] = ("shop",)):
    for number in range(count):
        yield Send(to, _share(), number)
        if progress is not None:
            progress.append(number)
    return "result"


def _sends_then_waits(count: int, to: tuple[str, ...] = ("shop",)):
    yield from _sends(count, to=to)
    return (yield from receive("telco", ForwardShare))


def _start(mail: ExchangeDriver, exchange) -> asyncio.Task:
    return asyncio.create_task(mail.run(exchange, KEY, "a test"))


def _unreachable() -> PeerUnreachable:
    return PeerUnreachable("shop went away", remedy="look into its log")


pytestmark = pytest.mark.usefixtures("nothing_left")


# --- beside the arithmetic ---


async def test_the_exchange_goes_on_while_messages_are_on_their_way(peer, inbox, idle):
    progress: list[int] = []
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(DELIVERIES_AT_ONCE - 1, progress))
    await peer.until_under_way(DELIVERIES_AT_ONCE - 1)
    await eventually(lambda: progress == list(range(DELIVERIES_AT_ONCE - 1)))
    assert not run.done()
    peer.release(DELIVERIES_AT_ONCE)
    assert await run == "result"


async def test_no_more_than_a_few_are_under_way(peer, inbox, idle):
    progress: list[int] = []
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(12, progress))
    for arrived in range(12 - DELIVERIES_AT_ONCE + 1):
        await peer.until_under_way(DELIVERIES_AT_ONCE)
        await eventually(lambda done=arrived + DELIVERIES_AT_ONCE - 1: len(progress) == done)
        await asyncio.sleep(0.02)
        assert len(progress) == arrived + DELIVERIES_AT_ONCE - 1  # the generator itself is held back
        peer.release()
    while not run.done():
        peer.release()
        await asyncio.sleep(0.001)
    assert await run == "result"
    assert peer.most == DELIVERIES_AT_ONCE
    assert sorted(address.part for address in peer.arrived) == list(range(12))


async def test_the_result_comes_only_when_every_message_has_arrived(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(3))
    await peer.until_under_way(3)
    for left in (2, 1, 0):
        assert not run.done()
        peer.release()
        await eventually(lambda left=left: len(peer.under_way) == left)
        await asyncio.sleep(0.02)
    assert await run == "result"
    assert len(peer.arrived) == 3


async def test_a_message_is_awaited_beside_deliveries_and_the_party_is_idle_meanwhile(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(2))
    await peer.until_under_way(2)
    await eventually(lambda: idle.now)
    inbox.put(Address(KEY, ForwardShare.kind, "telco"), _share(7))
    await eventually(lambda: not idle.now)
    await asyncio.sleep(0.02)
    assert not run.done()
    peer.release(2)
    assert (await run).sh_z_BK[0, 0] == 7
    assert idle.waits == 1


async def test_a_party_that_only_sends_is_never_idle(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(3))
    await peer.until_under_way(3)
    assert not idle.now
    peer.release(3)
    await run
    assert idle.waits == 0


async def test_a_message_for_two_goes_to_both_and_counts_once(inbox, idle):
    peers = {name: Peer() for name in PEERS}
    run = _start(_mail(peers, inbox, idle), _sends(DELIVERIES_AT_ONCE - 1, to=PEERS))
    for peer in peers.values():
        await peer.until_under_way(DELIVERIES_AT_ONCE - 1)
        peer.release(DELIVERIES_AT_ONCE)
    assert await run == "result"
    assert all(len(peer.arrived) == DELIVERIES_AT_ONCE - 1 for peer in peers.values())


# --- failures ---


async def test_a_peer_that_is_not_there_ends_the_wait_for_another(inbox, idle):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{probe.getsockname()[1]}"
    async with PeerClient(nowhere, "shop", None) as client:
        run = _start(_mail({"shop": client}, inbox, idle), _sends_then_waits(1))
        async with asyncio.timeout(10):
            with pytest.raises(PeerUnreachable, match="shop"):
                await run
    assert not idle.now


async def test_a_delivery_that_fails_during_a_wait_ends_the_exchange_with_its_error(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(1))
    await peer.until_under_way(1)
    peer.fail(_unreachable())
    with pytest.raises(PeerUnreachable, match="shop went away"):
        await run
    address = Address(KEY, ForwardShare.kind, "telco")
    inbox.put(address, _share())
    assert (await inbox.take(address, 1, "a test")) is not None  # nobody waits for it any more


async def test_a_delivery_that_fails_while_it_is_the_last_ends_the_exchange_with_its_error(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(2))
    await peer.until_under_way(2)
    peer.release()
    await asyncio.sleep(0.01)
    peer.fail(_unreachable())
    with pytest.raises(PeerUnreachable):
        await run


async def test_a_delivery_that_fails_while_others_are_held_back_ends_the_exchange(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends(50))
    await peer.until_under_way(DELIVERIES_AT_ONCE)
    peer.under_way[0].set_exception(_unreachable())
    with pytest.raises(PeerUnreachable):
        await run
    await asyncio.sleep(0.01)
    assert peer.begun == DELIVERIES_AT_ONCE
    assert peer.cancelled == DELIVERIES_AT_ONCE - 1


async def test_all_deliveries_failing_at_once_are_one_error_and_no_noise(peer, inbox, idle):
    """As when the peer's process ends."""
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(3))
    await peer.until_under_way(3)
    peer.fail(_unreachable())
    with pytest.raises(PeerUnreachable):
        await run
    del run


async def test_a_delivery_and_the_awaited_message_failing_at_once_are_one_error_and_no_noise(peer, inbox, idle):
    """As when the job is aborted while a peer goes away."""
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(1))
    await peer.until_under_way(1)
    peer.fail(_unreachable())
    inbox.fail(JOB, JobAborted("the job is over"))
    with pytest.raises((PeerUnreachable, JobAborted)):
        await run
    del run


async def test_when_one_of_two_receivers_fails_the_other_delivery_is_given_up(inbox, idle):
    peers = {name: Peer() for name in PEERS}
    run = _start(_mail(peers, inbox, idle), _sends_then_waits(1, PEERS))
    await peers["telco"].until_under_way(1)
    peers["shop"].fail(_unreachable())
    with pytest.raises(PeerUnreachable):
        await run
    await asyncio.sleep(0.01)
    assert peers["telco"].under_way == []


async def test_a_wait_that_fails_gives_up_what_is_on_its_way(peer, inbox, idle):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(2))
    await peer.until_under_way(2)
    inbox.fail(JOB, JobAborted("the job is over"))
    with pytest.raises(JobAborted):
        await run
    await asyncio.sleep(0.01)
    assert (peer.under_way, peer.cancelled) == ([], 2)


async def test_an_error_of_the_exchange_gives_up_what_is_on_its_way(peer, inbox, idle):
    def exchange():
        yield from _sends(2)
        raise ProtocolError("refused")

    run = _start(_mail({"shop": peer}, inbox, idle), exchange())
    with pytest.raises(ProtocolError, match="refused"):
        await run
    await asyncio.sleep(0.01)
    assert peer.under_way == []
    assert peer.arrived == []


@pytest.mark.parametrize("sends", [2, 20], ids=["while it waits for a message", "while it is held back"])
async def test_cancelling_leaves_nothing_behind(peer, inbox, idle, sends):
    run = _start(_mail({"shop": peer}, inbox, idle), _sends_then_waits(sends))
    await peer.until_under_way(min(sends, DELIVERIES_AT_ONCE))
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await asyncio.sleep(0.01)
    assert peer.under_way == []
    assert not idle.now
    address = Address(KEY, ForwardShare.kind, "telco")
    inbox.put(address, _share())
    assert (await inbox.take(address, 1, "a test")) is not None


async def test_nothing_in_the_clear_leaves_in_an_encrypted_job(peer, inbox, idle):
    def exchange():
        yield Send(("shop",), ClearWeights(np.zeros((1, 1), dtype=np.int64)))

    with pytest.raises(InternalError, match="in the clear"):
        await _mail({"shop": peer}, inbox, idle).run(exchange(), KEY, "a test")
    assert peer.begun == 0
    run = _start(_mail({"shop": peer}, inbox, idle, encrypted=False), exchange())
    await peer.until_under_way(1)
    peer.release()
    await run
