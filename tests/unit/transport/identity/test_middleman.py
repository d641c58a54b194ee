"""Somebody with a web server's certificate for the bank's name answers with what the bank itself has signed."""

import grpc
import pytest
from cryptography import x509
from support.wire.certificates import Unchecked
from support.wire.middleman import PROVE, Middleman, answering

from vfl import messages as m
from vfl.errors import MismatchError, ProtocolError, RemoteError
from vfl.pki.profile import certificate_digest
from vfl.pki.statements import Statement, identity_statement
from vfl.pki.trust import CertificateRefused, Refusal
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.v1 import identity_pb2
from vfl.transport.wire.control_codec import to_proto

FINISH = m.Finish("job@1", "job-1", 0)
NONCE = bytes(range(32))


@pytest.fixture
def web_server(issuer):
    return issuer.files("bank", identities=(), role="")


def _digest(files):
    return certificate_digest(x509.load_pem_x509_certificate(files.certificate.read_bytes()))


def _signed(credentials, statement):
    signed = credentials.sign(statement)
    return to_proto(m.IdentityProof(signed.certificate, signed.intermediates, signed.signature)).SerializeToString()


async def _refused(client, share):
    call = client.finish(FINISH) if isinstance(client, ControlClient) else client.deliver(*share(), 5)
    with pytest.raises(CertificateRefused, match="does not prove that it is bank") as caught:
        await call
    assert caught.value.reason is Refusal.BAD_SIGNATURE
    assert "is not what it signed for this caller and connection" in caught.value.summary


@pytest.mark.parametrize(("kind", "name"), [(ControlClient, "hub"), (PeerClient, "shop")])
async def test_the_nonce_passed_on_to_the_bank_itself_proves_nothing(
    kind, name, web_server, serving_tls, calling, share, handler
):
    """The middleman is a member, so the bank answers it; but about the certificate of the middleman."""
    async with (
        serving_tls() as bank,
        secure_channel(calling("telco"), bank, "bank", []) as own,
    ):

        async def pass_on(method, request):
            return await own.unary_unary(method)(request)

        middleman = Middleman(pass_on)
        async with answering(middleman, web_server) as endpoint, kind(endpoint, "bank", calling(name)) as client:
            await _refused(client, share)
    assert set(middleman.heard) == {PROVE}
    assert handler.calls == []


@pytest.mark.parametrize("right", ["all", "nonce", "caller", "federation", "party", "purpose"])
async def test_an_earlier_or_another_answer_proves_nothing(
    right, web_server, calling, share, certificates, mutual, issuer
):
    """The bank's genuine signatures: of an earlier nonce, for another caller, and of other statements."""
    bank = Unchecked(certificates["bank"], mutual, "bank")
    hub, shop = _digest(certificates["hub"]), _digest(certificates["shop"])

    async def answer(_, request):
        nonce = identity_pb2.ProveRequest.FromString(request).nonce
        statement = {
            "all": identity_statement("demo", "bank", nonce, hub),
            "nonce": identity_statement("demo", "bank", nonce, shop),
            "caller": identity_statement("demo", "bank", NONCE, hub),
            "federation": identity_statement("other", "bank", nonce, hub),
            "party": identity_statement("demo", "shop", nonce, hub),
            "purpose": Statement("vfl/public-keys/3", "demo", "", 0, "bank", (nonce, hub)),
        }[right]
        return _signed(bank, statement)

    middleman = Middleman(answer)
    files = certificates["bank"] if right == "all" else web_server
    async with answering(middleman, files) as endpoint, ControlClient(endpoint, "bank", calling("hub")) as client:
        if right == "all":
            await client.channel(5)  # the counterpart: with nothing changed, this very answer is accepted
        else:
            await _refused(client, share)
    assert set(middleman.heard) == {PROVE}


async def test_a_genuine_answer_on_the_connection_of_somebody_else_is_not_enough(
    web_server, calling, certificates, mutual
):
    """Even if the bank's key had signed for this caller: TLS then accepts only the bank's certificate."""
    bank = Unchecked(certificates["bank"], mutual, "bank")

    async def answer(_, request):
        nonce = identity_pb2.ProveRequest.FromString(request).nonce
        return _signed(bank, identity_statement("demo", "bank", nonce, _digest(certificates["hub"])))

    middleman = Middleman(answer)
    async with answering(middleman, web_server) as endpoint, ControlClient(endpoint, "bank", calling("hub")) as client:
        with pytest.raises(Exception, match="bank presented another certificate on each of 4 connections"):
            await client.finish(FINISH)
    assert set(middleman.heard) == {PROVE}


async def test_a_server_that_does_not_know_the_call_is_named(certificates, calling):
    server = grpc.aio.server()
    pair = certificates["bank"].key.read_bytes(), certificates["bank"].certificate.read_bytes()
    secured = grpc.ssl_server_credentials([pair], certificates["bank"].ca.read_bytes(), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", secured)
    await server.start()
    try:
        async with ControlClient(f"127.0.0.1:{port}", "bank", calling("hub")) as hub:
            with pytest.raises(MismatchError, match="does not prove that it is bank: it does not know that call"):
                await hub.wait_ready(5)
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"\xff\xff", ProtocolError),
        (b"", CertificateRefused),
        (to_proto(m.IdentityProof(b"x" * 20_000, b"", b"")).SerializeToString(), CertificateRefused),
    ],
    ids=["unreadable", "empty", "too long"],
)
async def test_an_answer_that_is_none(reply, error, certificates, calling):
    async def answer(*_):
        return reply

    async with (
        answering(Middleman(answer), certificates["bank"]) as endpoint,
        ControlClient(endpoint, "bank", calling("hub")) as hub,
    ):
        with pytest.raises(error, match="bank"):
            await hub.finish(FINISH)


@pytest.mark.parametrize("nonce", [b"", b"x" * 31, b"x" * 33])
async def test_a_party_signs_nonces_of_one_length_only(nonce, serving_tls, calling):
    async with serving_tls() as endpoint, secure_channel(calling("hub"), endpoint, "bank", []) as channel:
        request = identity_pb2.ProveRequest(nonce=nonce).SerializeToString()
        with pytest.raises(grpc.aio.AioRpcError, match=f"a nonce of {len(nonce)} bytes was refused"):
            await channel.unary_unary(PROVE)(request)


async def test_a_revoked_caller_gets_no_proof(serving_tls, calling, issuer):
    files = issuer.files("hub")
    issuer.revoke(files)
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", files)) as hub:
        with pytest.raises(RemoteError, match="has been revoked"):
            await hub.wait_ready(5)
