"""How far a connection comes, and who has to act when it stops; each step over real sockets."""

import asyncio
import socket
import threading
from contextlib import asynccontextmanager

import pytest
from support.federations.federation import free_ports
from support.wire.certificates import Issuer

from vfl.messages import Check
from vfl.transport.diagnosis import connection_check
from vfl.transport.diagnosis.connection_check import explain_connection, try_connection


@pytest.fixture
def short_steps(monkeypatch):
    """Where the end of one is waited for."""
    monkeypatch.setattr(connection_check, "STEP_SECONDS", 0.5)


@asynccontextmanager
async def listening(answer):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    await asyncio.sleep(0.05)  # in which the handler sees that the caller has gone


async def test_every_step_to_a_party_that_answers_is_told(serving_tls, calling):
    async with serving_tls() as endpoint:
        attempt = await try_connection(endpoint, "bank", calling("hub"), "hub")
    assert list(attempt.passed) == [Check.NAME, Check.CONNECTION, Check.TLS]
    assert attempt.obstacle is None
    assert attempt.certificate is not None


async def test_without_tls_the_connection_alone_is_tried(serving):
    async with serving() as server:
        attempt = await try_connection(f"localhost:{server.port}", "bank", None)
    assert list(attempt.passed) == [Check.NAME, Check.CONNECTION]
    assert (attempt.obstacle, attempt.certificate) == (None, None)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid"])
async def test_a_name_that_does_not_resolve(calling, host):
    attempt = await try_connection(f"{host}:5001", "bank", calling("hub"), "hub")
    assert attempt.passed == {}
    assert attempt.obstacle.check is Check.NAME
    assert not attempt.obstacle.at_peer
    assert "does not resolve" in attempt.obstacle.summary


async def test_a_name_service_that_does_not_answer_costs_no_more_than_the_deadline(calling, monkeypatch, short_steps):
    over, looked_up = threading.Event(), threading.Event()

    def look_up(*_, **__):
        over.wait(30)
        looked_up.set()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    attempt = await try_connection("bank.example:5001", "bank", calling("hub"), "hub")
    assert not looked_up.is_set()
    over.set()
    assert "no answer" in attempt.obstacle.summary


async def test_nobody_listens(calling):
    (port,) = free_ports(1)
    obstacle = (await try_connection(f"127.0.0.1:{port}", "bank", calling("hub"), "hub")).obstacle
    assert (obstacle.check, obstacle.at_peer) == (Check.CONNECTION, True)
    assert "nothing listens there" in obstacle.summary
    assert "start bank there" in obstacle.remedy


async def test_a_host_that_swallows_everything(calling, short_steps):
    with socket.socket() as full:  # a backlog that is never accepted from: further connections are dropped
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        endpoint = full.getsockname()
        with socket.socket() as first, socket.socket() as second:
            for waiting in (first, second):
                waiting.setblocking(False)
                waiting.connect_ex(endpoint)
            obstacle = (await try_connection(f"127.0.0.1:{endpoint[1]}", "bank", calling("hub"))).obstacle
    assert obstacle.check is Check.CONNECTION
    assert "no answer" in obstacle.summary
    assert "firewalls" in obstacle.remedy


async def _says_nothing(reader, writer):
    await reader.read()
    writer.close()


async def _speaks_http(reader, writer):
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.parametrize(
    ("answer", "says"), [(_says_nothing, "does not speak TLS"), (_speaks_http, "the TLS handshake fails")]
)
async def test_something_that_is_not_tls(calling, short_steps, answer, says):
    async with listening(answer) as endpoint:
        attempt = await try_connection(endpoint, "bank", calling("hub"), "hub")
    assert list(attempt.passed) == [Check.NAME, Check.CONNECTION]
    assert attempt.obstacle.check is Check.TLS
    assert says in attempt.obstacle.summary


async def test_a_certificate_of_another_ca_is_refused_and_the_texts_name_no_file(
    serving_tls, calling, issuer, tmp_path
):
    foreign = Issuer.make(tmp_path / "foreign").files("bank")
    async with serving_tls(foreign) as endpoint:
        attempt = await try_connection(endpoint, "bank", calling("hub"), "hub")
        sentence = await explain_connection(endpoint, "bank", calling("hub"))
    assert attempt.obstacle.check is Check.TLS
    assert "hub refuses the certificate presented there" in attempt.obstacle.summary
    assert "this process refuses the certificate presented there" in sentence
    assert not {str(tmp_path), str(issuer.folder)} & {
        *attempt.obstacle.summary.split(),
        *attempt.obstacle.remedy.split(),
    }


async def test_own_files_that_do_not_fit_are_this_ends_fault(serving_tls, calling, issuer):
    files = issuer.files("hub")
    caller = calling("hub", files)
    files.certificate.write_bytes(issuer.files("hub").certificate.read_bytes())
    async with serving_tls() as endpoint:
        obstacle = (await try_connection(endpoint, "bank", caller, "hub")).obstacle
    assert (obstacle.at_peer, obstacle.code) == (False, "config")
    assert str(issuer.folder) not in obstacle.summary + obstacle.remedy
