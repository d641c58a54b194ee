"""Server and clients over real sockets on 127.0.0.1."""

import asyncio
import socket
import time

import grpc
import numpy as np
import pytest
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.federations.waiting import eventually

from vfl import messages as m
from vfl.errors import (
    ConfigError,
    DataError,
    DeadlineExceeded,
    ListenError,
    MismatchError,
    PeerUnreachable,
    ProtocolError,
    RemoteError,
)
from vfl.ids import Address, Batch, CheckpointId, Phase, Role, Split, StepKey
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.inbox import Inbox
from vfl.transport.server import PartyServer
from vfl.transport.v1 import data_pb2, data_pb2_grpc
from vfl.transport.wire.limits import Limits
from vfl.transport.wire.traffic import Traffic, TrafficMeter

STEP = StepKey("job-1", 0, 0)
CHECKPOINT = CheckpointId(0, 0, "digest")
PHASE_CALL = m.PhaseCall("job@1", STEP, Phase.TOP, Batch(Split.TRAIN, 1, 2))


def endpoint(server) -> str:
    return f"127.0.0.1:{server.port}"


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ciphertexts(count: int, sender: str = "shop"):
    rng = np.random.default_rng(count)
    first, second = (rng.integers(0, 1 << 32, (count, 6, words), dtype=np.uint32) for words in (960, 7680))
    return Address(STEP, "masked_weight_gradient", sender), m.MaskedWeightGradient(first, second)


def assert_same(got, expected):
    assert type(got) is type(expected)
    for name, values in expected.tensors().items():
        np.testing.assert_array_equal(got.tensors()[name], values, strict=True)


@pytest.mark.parametrize("count", [0, 1, 145], ids=["empty", "small", "30 MB"])
async def test_tensors_arrive_unchanged(serving, inbox, count):
    received, sent = TrafficMeter(), TrafficMeter()
    address, message = ciphertexts(count)
    async with serving(traffic=received) as server, PeerClient(endpoint(server), "bank", None, traffic=sent) as client:
        await client.deliver(address, message, 20)
    got = await inbox.take(address, 1, "a test")
    assert_same(got, message)
    size = count * 6 * (960 + 7680) * 4
    assert received.by_peer("job-1") == {"shop": Traffic(received=size)}
    assert sent.by_peer("job-1") == {"bank": Traffic(sent=size)}


async def test_health_is_answered_while_two_peers_deliver(serving, inbox):
    async with (
        serving() as server,
        PeerClient(endpoint(server), "bank", None) as shop,
        PeerClient(endpoint(server), "bank", None) as telco,
    ):
        sends = [
            asyncio.create_task(client.deliver(*ciphertexts(40, sender), 20))
            for client, sender in ((shop, "shop"), (telco, "telco"))
        ]
        await shop.wait_ready(5)
        await asyncio.gather(*sends)
    for sender in ("shop", "telco"):
        address, message = ciphertexts(40, sender)
        assert_same(await inbox.take(address, 1, "a test"), message)


async def test_parts_of_one_kind_arrive_in_any_order_and_are_told_apart(serving, inbox):
    parts = [(Address(STEP, "masked_weight_gradient", "shop", n), ciphertexts(n + 1)[1]) for n in range(4)]
    async with serving() as server, PeerClient(endpoint(server), "bank", None) as client:
        await asyncio.gather(*(client.deliver(address, message, 20) for address, message in reversed(parts)))
    for address, message in parts:
        assert_same(await inbox.take(address, 1, "a test"), message)


async def test_control_calls_arrive_and_are_answered(serving, handler):
    calls = {
        "prepare": (m.Prepare("job@1", "job-1", 0, "digest", "1"), m.Prepared("bank", Role.ACTIVE, 10, 2)),
        "restore": (m.Restore("job@1", "job-1", 0, CHECKPOINT), m.Restored("bank")),
        "align": (m.Align("job@1", "job-1", 0, False), m.Aligned(10, 6, 2, 2, 4)),
        "begin": (m.Begin("job@1", "job-1", 0), m.Begun("bank")),
        "run_phase": (PHASE_CALL, m.PhaseReport(0.25, 3, 4, {"loss": 0.5})),
        "score": (m.Score("job@1", "job-1", 0, Split.TEST, 3), m.Scored({"auc": 0.75})),
        "checkpoint": (m.Checkpoint("job@1", STEP, True), m.Checkpointed(CHECKPOINT)),
        "commit": (m.Commit("job@1", "job-1", 0, CHECKPOINT), m.Committed("bank")),
        "heartbeat": (m.Heartbeat("job@1", "job-1", 0, ("shop",)), m.Alive("bank", "top of step 3", 7, "shop", 1.5)),
        "abort": (m.Abort("job@1", "job-1", 0, "shop", "data", "no rows"), None),
        "finish": (m.Finish("job@1", "job-1", 0), m.Finished("bank", 1, 2, 3, 0.5)),
        "release": (m.Release("job@1", "job-1", 0), m.Released("bank")),
    }
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        # The others may take as long as the party gets on.
        limits = dict.fromkeys(("align", "heartbeat", "abort", "release"), (5,))
        answers = {name: await getattr(client, name)(call, *limits.get(name, ())) for name, (call, _) in calls.items()}
    assert answers == {name: answer for name, (_, answer) in calls.items()}
    assert handler.calls == [call for call, _ in calls.values()]


async def test_an_error_crosses_without_its_detail(serving, handler):
    handler.error = DataError("the table is empty — größer!", detail="/srv/rows.csv", remedy="choose another")
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        with pytest.raises(RemoteError, match="bank: the table is empty — größer!") as caught:
            await client.run_phase(PHASE_CALL)
    assert (caught.value.party, caught.value.remote_code) == ("bank", "data")
    assert caught.value.remedy == "choose another"
    assert "/srv" not in str(caught.value)


async def test_a_defect_crosses_as_nothing_but_an_internal_error(serving, handler):
    handler.error = KeyError("patient 4711")
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        with pytest.raises(RemoteError, match="internal error") as caught:
            await client.run_phase(PHASE_CALL)
    assert caught.value.remote_code == "internal"
    assert "4711" not in repr(vars(caught.value))


async def test_a_refused_message_is_an_error_at_its_sender(serving, share):
    async with serving() as server, PeerClient(endpoint(server), "bank", None) as client:
        await client.deliver(*share(), 5)
        await client.deliver(*share(), 5)
        with pytest.raises(RemoteError, match="arrived twice") as caught:
            await client.deliver(*share(fill=1), 5)
        assert caught.value.remote_code == "protocol"
        with pytest.raises(RemoteError, match="not a party of this federation"):
            await client.deliver(*share(sender="mallory"), 5)


async def test_a_message_too_large_is_refused_at_both_ends(serving):
    address, message = ciphertexts(8)
    inbox = Inbox(Limits(max_message_bytes=1 << 20))
    async with serving(inbox=inbox) as server:
        async with PeerClient(endpoint(server), "bank", None, Limits(max_message_bytes=1 << 20)) as careful:
            with pytest.raises(ProtocolError, match="larger than the limit"):
                await careful.deliver(address, message, 5)
        async with PeerClient(endpoint(server), "bank", None) as careless:
            with pytest.raises(RemoteError, match="negative or too large"):
                await careless.deliver(address, message, 5)


async def test_a_stream_without_header_and_one_cut_short_are_refused(serving, share):
    header = data_pb2.Header(
        protocol_version=1, run="job-1", kind="forward_share", sender="shop", receiver="bank", total_bytes=48,
        tensors=[data_pb2.TensorSpec(name="sh_z_BK", dtype="int64", shape=[3, 2])],
    )  # fmt: skip
    streams = {
        "without a header": [],
        "message without a header": [data_pb2.Chunk(payload=b"x")],
        "before all declared": [data_pb2.Chunk(header=header), data_pb2.Chunk(payload=b"x" * 47)],
    }
    async with serving() as server, grpc.aio.insecure_channel(endpoint(server)) as channel:
        for says, chunks in streams.items():
            with pytest.raises(grpc.aio.AioRpcError, match=says) as caught:
                await data_pb2_grpc.DataStub(channel).Deliver(iter(chunks), timeout=5)
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_room_of_an_abandoned_delivery_is_free_again(serving, inbox, share):
    async def stalls():
        address, message = ciphertexts(1)
        header = data_pb2.Header(
            protocol_version=1, run="job-1", kind=address.kind, sender="shop", receiver="bank",
            total_bytes=sum(values.nbytes for values in message.tensors().values()),
            tensors=[
                data_pb2.TensorSpec(name=name, dtype="uint32", shape=values.shape)
                for name, values in message.tensors().items()
            ],
        )  # fmt: skip
        yield data_pb2.Chunk(header=header)
        await asyncio.sleep(30)

    async with serving() as server, grpc.aio.insecure_channel(endpoint(server)) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await data_pb2_grpc.DataStub(channel).Deliver(stalls(), timeout=0.2)
        await eventually(lambda: not inbox.stored_bytes)
        with (
            inbox.reserve(share(sender="telco")[0], inbox.limits.inbox_bytes // 2),
            inbox.reserve(share()[0], inbox.limits.inbox_bytes // 2),
        ):
            pass


async def test_a_call_past_its_deadline_names_party_call_and_seconds(serving, handler):
    handler.delay = 30
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        with pytest.raises(DeadlineExceeded, match=r"bank did not complete 'align' within 0\.2 s"):
            await client.align(m.Align("job@1", "job-1", 0, False), 0.2)


async def test_a_channel_that_is_closed_under_a_call_is_no_cancellation_of_the_caller(serving, handler):
    handler.delay = 30
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        call = asyncio.create_task(client.score(m.Score("job@1", "job-1", 0, Split.TEST, 3)))
        await asyncio.sleep(0.3)
        await client._insecure.close(0)
        with pytest.raises(PeerUnreachable, match="long after its connection was replaced"):
            await call
        client._insecure = None
        call = asyncio.create_task(client.score(m.Score("job@1", "job-1", 0, Split.TEST, 3)))
        await asyncio.sleep(0.3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_an_unreachable_peer_is_named_with_its_endpoint(share):
    nowhere = f"127.0.0.1:{unused_port()}"
    async with PeerClient(nowhere, "bank", None) as client:
        with pytest.raises(PeerUnreachable, match=f"bank went away or does not answer at {nowhere}"):
            await client.deliver(*share(), 5)
        start = time.monotonic()
        with pytest.raises(PeerUnreachable, match=rf"bank did not answer at {nowhere} within 0\.5 s") as caught:
            await client.wait_ready(0.5)
        assert 0.4 < time.monotonic() - start < 3
        assert "refused" in caught.value.detail
        assert "start bank" in caught.value.remedy


async def test_a_party_that_starts_late_is_waited_for(serving):
    port = unused_port()
    async with ControlClient(f"127.0.0.1:{port}", "bank", None) as client:
        ready = asyncio.create_task(client.wait_ready(10))
        await asyncio.sleep(0.3)
        async with serving(listen=f"127.0.0.1:{port}"):
            await ready


async def test_another_party_at_the_endpoint_is_noticed(serving, share):
    async with serving() as server, PeerClient(endpoint(server), "telco", None) as client:
        with pytest.raises(MismatchError, match="a party other than telco"):
            await client.wait_ready(5)
        with pytest.raises(RemoteError, match="another party arrived at bank") as caught:
            await client.deliver(*share(), 5)
        assert caught.value.remote_code == "mismatch"


async def test_a_server_that_stops_ends_the_calls_of_its_peers(serving, handler):
    handler.delay = 30
    async with serving() as server, ControlClient(endpoint(server), "bank", None) as client:
        call = asyncio.create_task(client.run_phase(PHASE_CALL))
        await asyncio.wait_for(handler.called.wait(), 5)
        await server.stop(0.1)
        with pytest.raises(PeerUnreachable, match="bank went away"):
            await call


async def test_a_port_in_use_is_named(serving, handler, inbox, federation):
    async with serving() as server:
        second = PartyServer("shop", endpoint(server), handler, inbox, None, federation)
        with pytest.raises(ListenError, match=f"shop cannot open port {server.port}") as caught:
            await second.start()
        assert "'listen' of shop" in caught.value.remedy
        await second.stop(0)


async def test_reflection_lists_the_services(serving):
    async with serving() as server, grpc.aio.insecure_channel(endpoint(server)) as channel:
        requests = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        replies = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(requests)
        services = {s.name async for reply in replies for s in reply.list_services_response.service}
    assert {"vfl.transport.v1.Control", "vfl.transport.v1.Data", "grpc.health.v1.Health"} <= services


def test_no_plaintext_server_beyond_loopback(handler, inbox, federation):
    with pytest.raises(ConfigError, match="only on loopback"):
        PartyServer("bank", "0.0.0.0:0", handler, inbox, None, federation)
