"""Connections that say nothing, or too many of them, from somebody who can reach the port."""

import asyncio
import resource
import socket
import ssl
import time
from contextlib import AsyncExitStack, contextmanager, suppress
from statistics import median

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from support.federations.waiting import eventually
from support.logs import captured_logs, logged
from support.wire.silent import silent_connections

from vfl import messages as m
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.server import connections
from vfl.transport.server.connections import (
    MAX_CONNECTIONS_OF_ONE,
    MAX_STRANGERS,
    MAX_STRANGERS_OF_ONE,
    Connections,
    _accepted,
    _descriptors,
    _parsed,
    connection_limit,
)
from vfl.transport.tls.credentials import secure_channel

FINISH = m.Finish("job@1", "job-1", 0)
SPARE = 600
SILENT = 900


@contextmanager
def few_descriptors():
    """As a process has them that may open 600 more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(_descriptors()) + SPARE, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def port_of(endpoint):
    return int(endpoint.rpartition(":")[2])


async def new_connections_are_served(endpoint, calling, seconds):
    """Members connect anew all the time; gives how long each took."""
    took, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        async with ControlClient(endpoint, "bank", calling("hub")) as hub:
            await hub.wait_ready(20)
            assert (await hub.finish(FINISH)).party == "bank"
        took.append(time.monotonic() - begin)
    return took


@pytest.mark.parametrize("source", ["127.0.0.9", "127.0.0.1"], ids=["another address", "the members' address"])
async def test_silent_connections_leave_members_and_files_their_share(serving_tls, calling, tmp_path, source):
    with few_descriptors(), captured_logs() as logs:
        most = connection_limit()
        async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub")) as before:
            await before.finish(FINISH)
            with silent_connections(port_of(endpoint), SILENT, source):
                took = await new_connections_are_served(endpoint, calling, 7.0)
                assert median(took) < 1.0, took
                files = [(tmp_path / str(number)).open("w") for number in range(SPARE - most - 20)]
                accepted = len(dict(_accepted(port_of(endpoint))))
                assert accepted <= most + 10, "but for those that gRPC is about to close"
                await before.finish(FINISH)
                for file in files:
                    file.close()
    assert f"more than {MAX_STRANGERS_OF_ONE} connections of one address without a member's call" in logged(logs)
    assert f"most_of={source}" in logged(logs)


async def test_a_silent_connection_ends_with_the_handshakes_time(serving_tls):
    async with serving_tls() as endpoint:
        begin = time.monotonic()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(endpoint))
        async with asyncio.timeout(15):
            assert await reader.read() == b""
        assert 4.0 < time.monotonic() - begin < 8.0
        writer.close()


async def test_a_certificate_without_a_call_ends_too(serving_tls, certificates, monkeypatch):
    monkeypatch.setattr(connections, "STRANGER_SECONDS", 1.0)
    files = certificates["shop"]
    context = ssl.create_default_context(cafile=files.ca)
    context.load_cert_chain(files.certificate, files.key)
    context.set_alpn_protocols(["h2"])
    async with serving_tls() as endpoint:
        with captured_logs() as logs:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port_of(endpoint), ssl=context, server_hostname="bank.demo.vfl.internal"
            )
            writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            async with asyncio.timeout(15):
                while await reader.read(1000):
                    pass
            writer.close()
        assert "no call of a member within 1 s" in logged(logs)


async def test_connections_of_one_member_are_bounded_and_it_is_named(serving_tls, calling, share, inbox):
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with serving_tls() as endpoint, AsyncExitStack() as stack:
        with captured_logs() as logs:
            for _ in range(MAX_CONNECTIONS_OF_ONE + 10):
                channel = secure_channel(calling("shop"), endpoint, "bank", options)
                await stack.enter_async_context(channel)
                with suppress(grpc.aio.AioRpcError):  # this connection may be one too many already
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            await eventually(lambda: len(dict(_accepted(port_of(endpoint)))) <= MAX_CONNECTIONS_OF_ONE)
            async with PeerClient(endpoint, "bank", calling("telco")) as telco:
                await telco.deliver(*share(sender="telco"), 5)
        assert "most_of=shop" in logged(logs)


def test_many_addresses_together_are_bounded_and_members_stay():
    known = Connections()
    peers = [connections.Peer(f"10.0.{number // 8}.1", 1000 + number) for number in range(400)]
    known._since = dict.fromkeys(peers, time.monotonic())
    for peer in peers[:20]:
        known.belongs(f"ipv4:{peer.host}:{peer.port}", f"member-{peer.port % 4}")
    surplus = known._surplus(time.monotonic(), set(peers[20:30]))
    assert len(surplus) == 400 - 20 - MAX_STRANGERS
    assert not surplus.keys() & set(peers[:20])
    assert surplus.keys() >= set(peers[20:30]), "those that said nothing go first"


@pytest.mark.parametrize(
    ("peer", "host", "source"),
    [
        ("ipv4:10.1.2.3:4000", "10.1.2.3", "10.1.2.3"),
        ("ipv6:%5B2001:db8::1%5D:4000", "2001:db8::1", "2001:db8::/64"),
        ("ipv6:[fe80::1%25eth0]:4000", "fe80::1", "fe80::/64"),
        ("ipv6:[::ffff:10.1.2.3]:4000", "10.1.2.3", "10.1.2.3"),
    ],
)
def test_grpcs_names_of_peers_are_read(peer, host, source):
    parsed = _parsed(peer)
    assert parsed == (host, 4000)
    assert parsed.source == source


def test_a_peer_without_an_address_is_nobodys():
    assert _parsed("unix:/tmp/x") is None


async def test_looking_at_many_connections_takes_a_small_part_of_the_time(monkeypatch):
    pauses = []

    def look(self, port):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return 1

    async def sleep(seconds):
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr(Connections, "look", look)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await Connections().watch(1)
    assert min(pauses) >= 0.02 / 0.05


def test_without_descriptors_to_spare_one_connection_is_taken(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1, 1))
    assert connection_limit() == 1
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100_000, 100_000))
    assert connection_limit() == 1024


def test_ipv6_connections_are_seen():
    try:
        listening = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    port = listening.getsockname()[1]
    with listening, socket.create_connection(("::1", port)):
        accepted, _ = listening.accept()
        with accepted:
            assert [peer.host for peer in dict(_accepted(port))] == ["::1"]
