"""Who may use a relay, and what it does when nobody waits, too many wait, or somebody breaks off."""

import asyncio
import socket

import grpc
import pytest
from support.federations.waiting import eventually
from support.fixtures.servers import relayed_federation
from support.wire.certificates import Unchecked

from vfl.configuration.federation import FederationConfig
from vfl.errors import ProtocolError
from vfl.transport.client import RelayClient
from vfl.transport.relay import behind as behind_module
from vfl.transport.relay import tunnel
from vfl.transport.relay.behind import Behind
from vfl.transport.v1 import relay_pb2
from vfl.transport.wire.failures import Call, from_rpc_error
from vfl.transport.wire.local_endpoints import socket_of

SECONDS = 10.0


@pytest.fixture
def federation() -> FederationConfig:
    return relayed_federation()


_relays: list[Behind] = []


@pytest.fixture(autouse=True)
def _known_relays(monkeypatch):
    """The relays in this process, each of one party."""
    _relays.clear()
    make = Behind.__init__

    def known(self, *names):
        make(self, *names)
        _relays.append(self)

    monkeypatch.setattr(Behind, "__init__", known)


async def _waiting(count: int) -> None:
    await eventually(lambda: sum(not waiter.done() for behind in _relays for waiter in behind._waiting) == count)


async def _refused(call) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call.read(), SECONDS)
    return from_rpc_error(caught.value, Call("bank", "it", "a test", 1)).summary


async def _to(client, party):
    call = await client.connect()
    await call.write(relay_pb2.Piece(open=relay_pb2.Open(party=party)))
    return call


async def _pair(shop, telco):
    accepting = await telco.accept()
    opening = asyncio.create_task(accepting.read())
    await _waiting(1)
    connecting = await _to(shop, "telco")
    assert (await asyncio.wait_for(opening, SECONDS)).WhichOneof("part") == "opened"
    return connecting, accepting


@pytest.fixture
async def relayed(serving_tls, calling, federation):
    async with (
        serving_tls(federation=federation) as endpoint,
        RelayClient(endpoint, "bank", calling("shop")) as shop,
        RelayClient(endpoint, "bank", calling("telco")) as telco,
    ):
        yield shop, telco


async def test_bytes_pass_both_ways_in_order_and_the_end_too(relayed):
    connecting, accepting = await _pair(*relayed)
    sent = [bytes([number]) * 100_000 for number in range(20)]
    for source, target in ((connecting, accepting), (accepting, connecting)):
        reading = asyncio.create_task(_read(target, sum(map(len, sent))))
        for payload in sent:
            await source.write(relay_pb2.Piece(payload=payload))
        assert await asyncio.wait_for(reading, SECONDS) == b"".join(sent)
    await accepting.write(relay_pb2.Piece(payload=b"the last"))
    await accepting.done_writing()
    assert (await connecting.read()).payload == b"the last"
    assert await asyncio.wait_for(connecting.read(), SECONDS) is grpc.aio.EOF


async def _read(call, size) -> bytes:
    content = b""
    while len(content) < size:
        content += (await call.read()).payload
    return content


async def test_one_that_breaks_off_ends_the_other(relayed):
    for broken, other in ((0, 1), (1, 0)):
        pair = await _pair(*relayed)
        pair[broken].cancel()
        assert await asyncio.wait_for(pair[other].read(), SECONDS) is grpc.aio.EOF


async def test_a_slow_reader_stops_the_sender(relayed):
    connecting, accepting = await _pair(*relayed)
    written = 0

    async def write() -> None:
        nonlocal written
        while True:
            await connecting.write(relay_pb2.Piece(payload=bytes(1 << 18)))
            written += 1

    writing = asyncio.create_task(write())
    before = -1
    while before != written:
        before = written
        await asyncio.sleep(1)
    assert 0 < written < 240  # quarters of a MiB: buffers of gRPC on three connections and of the relay
    writing.cancel()
    connecting.cancel()
    accepting.cancel()


async def test_a_party_that_is_not_there_is_named(relayed):
    shop, _ = relayed
    assert (
        await _refused(await _to(shop, "telco")) == "bank: telco is not connected to bank, through which it is reached"
    )


async def test_a_waiting_call_that_was_given_up_gets_no_caller(relayed, monkeypatch):
    monkeypatch.setattr(behind_module, "JOIN_SECONDS", 0.2)
    shop, telco = relayed
    given_up = await telco.accept()
    reading = asyncio.create_task(given_up.read())
    await _waiting(1)
    given_up.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    await _waiting(0)
    assert "not connected" in await _refused(await _to(shop, "telco"))


async def test_only_the_party_behind_accepts_and_only_it_is_reached(relayed):
    shop, telco = relayed
    assert "only parties that are reached through this one" in await _refused(await shop.accept())
    for party in ("bank", "shop", "hub", "nobody", ""):
        assert "not reached through this one" in await _refused(await _to(telco, party))


async def test_the_first_piece_names_the_party(relayed):
    shop, _ = relayed
    call = await shop.connect()
    await call.write(relay_pb2.Piece(payload=b"x"))
    assert "without the name of a party" in await _refused(call)


async def test_the_first_piece_has_to_come(relayed, monkeypatch):
    monkeypatch.setattr("vfl.transport.relay.service.REQUEST_SECONDS", 0.2)
    shop, _ = relayed
    call = await shop.connect()
    assert "without the name of a party" in await _refused(call)


async def test_what_is_kept_open_is_bounded(relayed, monkeypatch):
    monkeypatch.setattr(behind_module, "MAX_RELAYED_WAITING", 2)
    monkeypatch.setattr(behind_module, "MAX_RELAYED_OF_PAIR", 1)
    shop, telco = relayed
    held = [await _pair(shop, telco)]
    waiting = [await telco.accept() for _ in range(2)]
    held.append(waiting)
    await _waiting(2)
    assert "telco keeps more than 2 connections" in await _refused(await telco.accept())
    says = "shop already has 1 connections to telco through bank, the most allowed"
    assert says in await _refused(await _to(shop, "telco"))
    for call in (*held[0], *waiting):
        call.cancel()


async def test_a_relay_that_stops_says_so(serving, calling, federation, certificates):
    credentials = Unchecked(certificates["bank"], federation, "bank")
    async with (
        serving(credentials=credentials, federation=federation) as server,
        RelayClient(f"127.0.0.1:{server.port}", "bank", calling("telco")) as telco,
    ):
        reading = asyncio.create_task(_refused(await telco.accept()))
        await _waiting(1)
        await server.stop(1)
        assert await reading == "bank: the relay is stopping"


async def _raw(client, method):
    """A call whose pieces are bytes of any kind."""
    return (await client.channel()).stream_stream(f"/vfl.transport.v1.Relay/{method}")()


async def test_a_first_piece_that_cannot_be_read_names_no_party(relayed):
    shop, _ = relayed
    call = await _raw(shop, "Connect")
    await call.write(b"\xff\xff")
    assert "without the name of a party" in await _refused(call)


@pytest.mark.parametrize("broken", [0, 1])
async def test_a_piece_that_cannot_be_read_ends_the_connection_for_both(relayed, broken):
    shop, telco = relayed
    accepting = await _raw(telco, "Accept")
    opening = asyncio.create_task(accepting.read())
    await _waiting(1)
    connecting = await _raw(shop, "Connect")
    await connecting.write(relay_pb2.Piece(open=relay_pb2.Open(party="telco")).SerializeToString())
    assert await asyncio.wait_for(opening, SECONDS) == relay_pb2.Piece(opened=relay_pb2.Opened()).SerializeToString()
    pair = (connecting, accepting)
    await pair[broken].write(b"\xff\xff")
    for call in (pair[1 - broken], pair[broken]):
        assert await asyncio.wait_for(call.read(), SECONDS) is grpc.aio.EOF


class _Unreadable:
    """A stream of which gRPC cannot read a piece."""

    async def read(self):
        return None

    async def write(self, _):
        pass

    async def done_writing(self):
        pass


class _Nowhere:
    def write(self, _):
        pass


async def test_an_end_of_a_connection_refuses_a_piece_that_cannot_be_read():
    reader = asyncio.StreamReader()
    reader.feed_eof()
    with pytest.raises(ProtocolError, match="the relay sent an unreadable answer"):
        await tunnel._pump(_Unreadable(), reader, _Nowhere())


async def test_who_waits_for_callers_goes_on_after_an_old_channel_was_closed(relayed, tmp_path):
    """As happens an hour after its certificates were renewed."""
    shop, telco = relayed

    async def greet(_, writer):
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_unix_server(greet, tmp_path / "socket"):
        outbound = tunnel._Outbound(telco, str(tmp_path / "socket"), 1)
        keeping = asyncio.create_task(outbound.keep())
        await _waiting(1)
        (first,) = (waiter for behind in _relays for waiter in behind._waiting)
        old, telco._proven = telco._proven.channel, None
        await old.close(0)
        await eventually(first.done)
        await _waiting(1)
        call = await _to(shop, "telco")
        assert (await asyncio.wait_for(call.read(), SECONDS)).payload == b"hello"
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await outbound.end()


class _Closed:
    """A client after its channel was closed."""

    peer_name, endpoint = "bank", "it"

    def connect(self):
        raise AssertionError("used after the way through it was closed")


async def test_a_connection_that_comes_just_when_the_way_is_closed_is_closed_quietly():
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    with socket.socket(socket.AF_UNIX) as late:
        async with tunnel._forwarded(_Closed(), "telco") as endpoint:
            late.connect(socket_of(endpoint))
            for _ in range(3):  # turns of the event loop until asyncio is about to have it served
                await asyncio.sleep(0)
        await asyncio.sleep(0.05)
    assert failures == []


class _Ended:
    """A call that the relay ended before anything was written."""

    async def write(self, _):
        raise asyncio.InvalidStateError("RPC already finished.")

    def cancel(self):
        pass


async def _ended():
    return _Ended()


async def test_a_call_that_ends_at_once_closes_its_connection_and_is_no_defect():
    failures = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    client = _Closed()
    client.connect = _ended
    async with tunnel._forwarded(client, "telco") as endpoint:
        reader, writer = await asyncio.open_unix_connection(socket_of(endpoint))
        assert await asyncio.wait_for(reader.read(), SECONDS) == b""
        writer.close()
    assert failures == []
