"""Files that change while a server runs: new connections use them, and no call is lost."""

import asyncio
import socket
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.logs import captured_logs

from vfl import messages as m
from vfl.errors import RemoteError
from vfl.pki.credentials import Credentials
from vfl.transport.client import ControlClient

FINISH = m.Finish("job@1", "job-1", 0)


def put(source, target):
    """Replace key and certificate as an operator does: each file at once, one after the other."""
    for path, onto in ((source.key, target.key), (source.certificate, target.certificate)):
        path.replace(onto)


def serial(files):
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


def served(endpoint, files):
    """Serial number of the certificate that a server shows."""
    context = ssl.create_default_context(cafile=str(files.ca))
    context.check_hostname = False
    context.load_cert_chain(files.certificate, files.key)
    host, port = endpoint.split(":")
    with socket.create_connection((host, int(port)), 3) as plain, context.wrap_socket(plain) as secured:
        return x509.load_der_x509_certificate(secured.getpeercert(binary_form=True)).serial_number


async def test_a_server_shows_a_renewed_certificate_without_losing_connections(
    serving_tls, calling, issuer, certificates
):
    files = issuer.files("bank")
    async with serving_tls(files) as endpoint, ControlClient(endpoint, "bank", calling("hub")) as hub:
        await hub.finish(FINISH)
        assert await asyncio.to_thread(served, endpoint, certificates["shop"]) == serial(files)
        put(issuer.files("bank"), files)
        assert await asyncio.to_thread(served, endpoint, certificates["shop"]) == serial(files)
        await hub.finish(FINISH)  # on the connection that is older than the new files


async def test_a_caller_shows_a_renewed_certificate_on_its_next_call(serving_tls, calling, issuer, handler):
    files = issuer.files("hub")
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", files)) as hub:
        handler.delay = 0.5
        slow = asyncio.create_task(hub.finish(FINISH))
        await handler.called.wait()
        revoked = files.model_copy(update={"certificate": files.certificate.with_suffix(".old")})
        revoked.certificate.write_bytes(files.certificate.read_bytes())
        put(issuer.files("hub"), files)
        issuer.revoke(revoked)
        await hub.finish(FINISH)
        await slow  # a call in progress ends on its own connection


async def test_half_a_renewal_and_wrong_files_are_not_used(serving_tls, calling, issuer):
    files = issuer.files("bank")
    before = serial(files)
    renewed = issuer.files("bank")
    async with (
        serving_tls(files, kind=Credentials) as endpoint,
        ControlClient(endpoint, "bank", calling("hub")) as hub,
    ):
        renewed.key.replace(files.key)
        with captured_logs() as logs:
            for _ in range(3):
                assert await asyncio.to_thread(served, endpoint, issuer.files("shop")) == before
        events = [entry["event"] for entry in logs]
        assert events.count("changed certificate files are not used") == 1
        renewed.certificate.replace(files.certificate)
        assert await asyncio.to_thread(served, endpoint, issuer.files("shop")) == serial(files) != before
        await hub.finish(FINISH)


def test_a_certificate_for_somebody_else_is_not_taken_over(issuer, mutual):
    files = issuer.files("bank")
    credentials = Credentials(files, mutual, "bank")
    put(issuer.files("shop"), files)
    credentials.refresh()
    assert credentials.generation == 0
    put(issuer.files("bank"), files)
    credentials.refresh()
    assert credentials.generation == 1


async def test_a_damaged_revocation_list_leaves_the_earlier_one_in_force(serving_tls, calling, issuer, certificates):
    files = issuer.files("hub")
    issuer.revoke(files)
    good = issuer.revoked.read_bytes()
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", files)) as hub:
        with pytest.raises(RemoteError, match="revoked"):
            await hub.finish(FINISH)
        try:
            for content in (good[: len(good) // 2], b""):
                issuer.revoked.write_bytes(content)
                with pytest.raises(RemoteError, match="revoked"):
                    await hub.finish(FINISH)
        finally:
            issuer.revoked.write_bytes(good)


async def test_a_renewed_authority_admits_new_certificates(serving_tls, calling, issuer, tmp_path):
    """tls.ca is a bundle: add the new CA everywhere first, then renew certificates one by one."""
    old, new = type(issuer).make(tmp_path / "old"), type(issuer).make(tmp_path / "new")
    files = old.files("bank").model_copy(update={"revoked": None})
    async with serving_tls(files) as endpoint:
        both = old.ca.read_bytes() + new.authority.certificate.public_bytes(Encoding.PEM)
        old.ca.write_bytes(both)
        caller = new.files("hub", ca=old.ca).model_copy(update={"revoked": None})
        async with ControlClient(endpoint, "bank", calling("hub", caller)) as hub:
            assert (await hub.finish(FINISH)).party == "bank"
