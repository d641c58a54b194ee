"""A member that takes all it can at a relay, or comes and goes without end, keeps nobody out and is named."""

import asyncio
from contextlib import AsyncExitStack

import grpc
import pytest
from support.federations.waiting import eventually
from support.fixtures.servers import relayed_federation
from support.logs import captured_logs, logged

from vfl.configuration.federation import FederationConfig
from vfl.runtime.clock import loop_time
from vfl.transport.client import RelayClient
from vfl.transport.relay import behind as behind_module
from vfl.transport.relay import tunnel
from vfl.transport.server import gate
from vfl.transport.v1 import relay_pb2
from vfl.transport.wire.failures import Call, from_rpc_error
from vfl.transport.wire.limits import MAX_RELAYED_OF_PAIR, RELAYED_PIECE_BYTES

SECONDS = 10.0
MOST = 20
"""Connections that telco carries: some more than one caller may have."""


@pytest.fixture
def federation() -> FederationConfig:
    return relayed_federation()


@pytest.fixture
async def members(serving_tls, calling, federation, tmp_path):
    """Clients of bank; telco keeps connections open for callers, and greets each."""

    async def greet(reader, writer):
        writer.write(b"hello")
        await reader.read()
        writer.close()

    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(serving_tls(federation=federation))
        clients = {
            name: await stack.enter_async_context(RelayClient(endpoint, "bank", calling(name)))
            for name in ("hub", "shop", "telco")
        }
        await stack.enter_async_context(await asyncio.start_unix_server(greet, tmp_path / "socket"))
        outbound = tunnel._Outbound(clients["telco"], str(tmp_path / "socket"), MOST)
        keepers = [asyncio.create_task(outbound.keep()) for _ in range(tunnel.ACCEPTS_AHEAD)]
        yield clients
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        for task in outbound._carrying:
            task.cancel()
        await asyncio.gather(*outbound._carrying, return_exceptions=True)


async def _connected(client):
    """A call that was joined to telco, or the reason why not."""
    call = await client.connect()
    await call.write(relay_pb2.Piece(open=relay_pb2.Open(party="telco")))
    try:
        piece = await asyncio.wait_for(call.read(), SECONDS)
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error, Call("bank", "it", "a test", 1)).summary
    if piece is grpc.aio.EOF:
        return "ended"
    assert piece.payload == b"hello"
    return call


async def _first(client):
    """A connection, once telco has its first calls open."""
    while isinstance(call := await _connected(client), str):  # noqa: ASYNC110  # nobody tells when
        await asyncio.sleep(0.05)
    return call


async def test_a_member_that_takes_all_it_can_keeps_nobody_out_and_is_named(members):
    held = [await _first(members["shop"])]
    with captured_logs() as logs:
        held += [
            call
            for _ in range(3 * MAX_RELAYED_OF_PAIR)
            if not isinstance(call := await _connected(members["shop"]), str)
        ]
        assert len(held) == MAX_RELAYED_OF_PAIR
        held.append(await _connected(members["hub"]))
        assert not isinstance(held[-1], str)
    refused = f"shop already has {MAX_RELAYED_OF_PAIR} connections to telco through bank, the most allowed"
    assert refused in logged(logs)
    assert "hub already" not in logged(logs)
    for call in held:
        call.cancel()


async def test_a_member_that_comes_and_goes_all_the_time_keeps_nobody_out(members):
    (await _first(members["shop"])).cancel()
    churned = 0

    async def churn():
        nonlocal churned
        while True:
            call = await members["shop"].connect()
            await call.write(relay_pb2.Piece(open=relay_pb2.Open(party="telco")))
            await asyncio.sleep(0)
            call.cancel()
            churned += 1

    churning = [asyncio.create_task(churn()) for _ in range(20)]
    try:
        await eventually(lambda: churned > 100)
        for _ in range(10):
            call = await _connected(members["hub"])
            assert not isinstance(call, str), call
            call.cancel()
        assert churned > 200
    finally:
        for task in churning:
            task.cancel()
        await asyncio.gather(*churning, return_exceptions=True)


async def test_connections_of_others_do_not_use_up_the_calls_of_the_party_that_they_lead_to(members, monkeypatch):
    """They are calls of telco's at bank, opened for whoever wants to reach it."""
    monkeypatch.setattr(gate, "MAX_CALLS_OF_ONE", 2)
    held = [await _first(members["shop"])]
    held += [await _connected(members["shop"]) for _ in range(MAX_RELAYED_OF_PAIR - 1)]
    assert not [text for text in held if isinstance(text, str)]
    await members["telco"].wait_ready(SECONDS)
    await members["shop"].wait_ready(SECONDS)
    for call in held:
        call.cancel()


async def test_of_several_that_wait_the_one_with_the_fewest_is_next():
    behind = behind_module.Behind("telco", "bank")
    accepting = [asyncio.ensure_future(behind.wait_for_caller()) for _ in range(2)]
    await asyncio.gather(*(behind.join("shop") for _ in range(2)))
    waiting = {name: asyncio.ensure_future(behind.join(name)) for name in ("shop", "hub")}
    await asyncio.sleep(0)
    accepting.append(asyncio.ensure_future(behind.wait_for_caller()))
    done, _ = await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
    assert done == {waiting["hub"]}
    waiting["shop"].cancel()
    await asyncio.gather(*accepting, *waiting.values(), return_exceptions=True)


async def test_who_finds_no_room_learns_who_has_it(monkeypatch):
    monkeypatch.setattr(behind_module, "JOIN_SECONDS", 0.2)
    behind = behind_module.Behind("telco", "bank")
    accepting = asyncio.ensure_future(behind.wait_for_caller())
    await asyncio.sleep(0)
    await behind.join("shop")
    with pytest.raises(behind_module.PeerUnreachable, match=r"telco took no further connection.*; shop has 1"):
        await behind.join("hub")
    await accepting
    assert behind._connections == {"shop": 1, "hub": 0}


async def test_a_party_that_gives_up_just_when_it_is_joined_leaves_no_caller_waiting():
    behind = behind_module.Behind("telco", "bank")
    accepting = asyncio.ensure_future(behind.wait_for_caller())
    await asyncio.sleep(0)
    joined = await behind.join("shop")
    accepting.cancel()
    await asyncio.gather(accepting, return_exceptions=True)
    assert await asyncio.wait_for(joined.to_caller.get(), SECONDS) is None
    assert (behind._accepts, behind._connections["shop"]) == (0, 1)


async def test_a_caller_that_gives_up_just_when_it_is_joined_leaves_no_party_waiting():
    behind = behind_module.Behind("telco", "bank")
    behind._last_left = loop_time()
    joining = asyncio.ensure_future(behind.join("shop"))
    await asyncio.sleep(0)
    accepting = asyncio.ensure_future(behind.wait_for_caller())
    await asyncio.sleep(0)
    joining.cancel()
    await asyncio.gather(joining, return_exceptions=True)
    assert joining.cancelled()
    joined = await accepting
    assert await asyncio.wait_for(joined.to_party.get(), SECONDS) is None
    assert (behind._accepts, behind._connections["shop"]) == (1, 0)


async def test_calls_that_name_no_party_are_bounded_too(members):
    held = [await members["shop"].connect() for _ in range(MAX_RELAYED_OF_PAIR + 5)]
    reading = [asyncio.create_task(call.read()) for call in held]
    with captured_logs() as logs:
        await eventually(lambda: sum(task.done() for task in reading) == 5)
    assert f"shop already has {MAX_RELAYED_OF_PAIR} connections at bank that name no party" in logged(logs)
    for call in held:
        call.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


async def test_a_piece_of_any_size_does_not_take_the_relays_memory(members):
    call = await _first(members["shop"])
    with captured_logs() as logs:
        await call.write(relay_pb2.Piece(payload=bytes(RELAYED_PIECE_BYTES + 1)))
        assert await asyncio.wait_for(call.read(), SECONDS) is grpc.aio.EOF
    assert "a piece that is too large" in logged(logs)


async def test_a_relay_that_opens_connections_without_end_is_bounded_and_named(members):
    held = [await _first(members["shop"])]
    with captured_logs() as logs:
        for name in ("shop", "hub"):
            held += [await _connected(members[name]) for _ in range(MAX_RELAYED_OF_PAIR - 1)]
    opened = [call for call in held if not isinstance(call, str)]
    assert len(opened) == MOST
    assert f"bank relays more than {MOST} connections at once to this party" in logged(logs)
    for call in opened:
        call.cancel()
