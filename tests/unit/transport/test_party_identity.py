"""Mutual TLS over real sockets: who may call what, and what both ends say about certificates that they refuse."""

from datetime import timedelta

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from support.logs import captured_logs
from support.wire.certificates import Issuer

from vfl import messages as m
from vfl.errors import ConfigError, PeerUnreachable, RemoteError
from vfl.pki.issuing.throwaway import make_federation_certificates
from vfl.pki.trust import CertificateRefused, current_time
from vfl.transport.access import Access
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.server import PartyServer
from vfl.transport.tls.credentials import secure_channel

FINISH = m.Finish("job@1", "job-1", 0)
BANK, SHOP, HUB = (f"spiffe://demo/party/{name}" for name in ("bank", "shop", "hub"))


async def test_the_coordinator_controls_and_a_party_delivers(serving_tls, calling, share, inbox):
    async with (
        serving_tls() as endpoint,
        ControlClient(endpoint, "bank", calling("hub")) as hub,
        PeerClient(endpoint, "bank", calling("shop")) as shop,
    ):
        await hub.wait_ready(5)
        assert (await hub.finish(FINISH)).party == "bank"
        await shop.deliver(*share(), 5)
    assert await inbox.take(share()[0], 1, "a test") is not None


async def test_only_the_coordinator_controls(serving_tls, calling, handler):
    async with serving_tls() as endpoint:
        for name in ("shop", "bank"):
            async with ControlClient(endpoint, "bank", calling(name)) as caller:
                for call in (caller.finish(FINISH), caller.abort(m.Abort("job@1", "job-1", 0, "x", "y", "z"), 5)):
                    with pytest.raises(RemoteError, match="does not allow control calls") as caught:
                        await call
                    assert caught.value.remote_code == "access"
    assert handler.calls == []


async def test_nobody_delivers_in_the_name_of_another(serving_tls, calling, share, inbox):
    async with serving_tls() as endpoint:
        for name in ("telco", "hub"):
            async with PeerClient(endpoint, "bank", calling(name)) as caller:
                with pytest.raises(RemoteError, match="does not allow messages in this name") as caught:
                    await caller.deliver(*share(sender="shop"), 5)
                assert caught.value.remote_code == "access"
        async with PeerClient(endpoint, "bank", calling("hub")) as hub:
            with pytest.raises(RemoteError, match="not a party of this federation"):
                await hub.deliver(*share(sender="hub"), 5)
    assert inbox.stored_bytes == 0


REFUSED_ON_CALL = {
    "other-federation": {"federation": "other"},
    "wrong-role": {"role": "passive"},
    "no-role": {"role": ""},
    "identity": {"identities": ()},
    "two-identities": {"identities": (HUB, SHOP)},
    "unknown-member": {"identities": ("spiffe://demo/party/nobody",)},
    "longer-identity": {"identities": (f"{HUB}/x",)},
    "wrong-member": {"identities": (SHOP,), "role": "passive", "server_name": "shop.demo.vfl.internal"},
    "identity-without-its-name": {"identities": (SHOP,), "role": "passive"},
    "revoked": {},
}
REASONS = {
    "no-role": "wrong-role",
    "two-identities": "identity",
    "longer-identity": "unknown-member",
    "identity-without-its-name": "wrong-name",
}


@pytest.mark.parametrize("case", REFUSED_ON_CALL)
async def test_a_certificate_of_our_ca_that_is_not_the_coordinators_is_refused_with_the_reason(
    case, serving_tls, calling, issuer, handler
):
    files = issuer.files("hub", **REFUSED_ON_CALL[case])
    if case == "revoked":
        issuer.revoke(files)
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", files)) as caller:
        with captured_logs() as logs, pytest.raises(RemoteError, match="does not allow") as caught:
            await caller.finish(FINISH)
    assert caught.value.remote_code == "access"
    assert {entry["reason"] for entry in logs if entry["event"] == "caller refused"} == {REASONS.get(case, case)}
    assert handler.calls == []


REFUSED_IN_HANDSHAKE = {
    "expired": {"lasts": timedelta(minutes=1)},
    "not-yet-valid": {"begins": timedelta(minutes=5)},
    "self-signed": {"self_signed": True},
    "other-ca": None,
}


@pytest.mark.parametrize("case", REFUSED_IN_HANDSHAKE)
async def test_a_caller_refused_in_the_handshake_is_told_what_can_be_wrong(
    case, serving_tls, calling, issuer, tmp_path, handler
):
    changes = REFUSED_IN_HANDSHAKE[case]
    maker = issuer if changes else Issuer.make(tmp_path / "foreign")
    caller = maker.files("hub", **changes or {}).model_copy(update={"ca": issuer.ca, "revoked": issuer.revoked})
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", caller)) as hub:
        with pytest.raises(PeerUnreachable) as caught:
            await hub.finish(FINISH)
        with pytest.raises(PeerUnreachable) as waited:
            await hub.wait_ready(0.3)
    for error in (caught.value, waited.value):
        assert "bank hangs up on this process's certificate" in error.detail
        assert "vfl keys show" in error.detail
    assert handler.calls == []


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("expired", "certificate has expired"),
        ("not-yet-valid", "certificate is not yet valid"),
        ("self-signed", "self-signed certificate"),
        ("other-ca", "unable to get local issuer certificate"),
        ("other-party", "bank.demo.vfl.internal"),
    ],
)
async def test_a_server_that_is_not_the_party_meant_is_refused_and_the_caller_says_why(
    case, says, serving_tls, calling, issuer, tmp_path, handler
):
    changes = REFUSED_IN_HANDSHAKE.get(case)
    server = issuer.files("shop") if case == "other-party" else None
    server = server or (issuer if changes else Issuer.make(tmp_path / "foreign")).files("bank", **changes or {})
    server = server.model_copy(update={"ca": issuer.ca, "revoked": issuer.revoked})
    async with serving_tls(server) as endpoint, ControlClient(endpoint, "bank", calling("hub")) as hub:
        with pytest.raises(PeerUnreachable) as caught:
            await hub.finish(FINISH)
    assert "this process refuses the certificate presented there" in caught.value.detail
    assert says in caught.value.detail
    assert handler.calls == []


async def test_host_and_port_do_not_matter_when_the_server_name_fits(serving_tls, calling, issuer):
    """The certificates of these tests name no host at all, as behind a proxy."""
    async with serving_tls() as endpoint:
        port = endpoint.rpartition(":")[2]
        async with ControlClient(f"localhost:{port}", "bank", calling("hub")) as hub:
            assert (await hub.finish(FINISH)).party == "bank"


async def test_a_stated_server_name_is_what_the_caller_checks(serving_tls, calling, issuer, mutual):
    config = mutual.model_dump()
    config["parties"][0]["server_name"] = "vfl.bank.example"
    stated = type(mutual).model_validate(config)
    files = issuer.files("bank", server_name="vfl.bank.example")
    async with serving_tls(files, stated) as endpoint:
        async with ControlClient(endpoint, "bank", calling("hub", federation=stated)) as hub:
            assert (await hub.finish(FINISH)).party == "bank"
        async with ControlClient(endpoint, "bank", calling("hub")) as hub:
            with pytest.raises(PeerUnreachable):
                await hub.finish(FINISH)


@pytest.mark.parametrize("key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())])
async def test_other_kinds_of_keys_work(serving_tls, calling, issuer, key):
    async with (
        serving_tls(issuer.files("bank", key=key)) as endpoint,
        ControlClient(endpoint, "bank", calling("hub", issuer.files("hub", key=key))) as hub,
    ):
        assert (await hub.finish(FINISH)).party == "bank"


async def test_a_caller_without_certificate_is_refused(serving_tls, certificates):
    only_ca = grpc.ssl_channel_credentials(certificates["hub"].ca.read_bytes())
    named = [("grpc.ssl_target_name_override", "bank.demo.vfl.internal")]
    async with serving_tls() as endpoint:
        for channel in (
            grpc.aio.secure_channel(endpoint, only_ca, options=named),
            grpc.aio.insecure_channel(endpoint),
        ):
            async with channel:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_health_and_reflection_are_for_members_only(serving_tls, calling, issuer):
    strangers = calling("hub", issuer.files("hub", federation="other"))
    async with serving_tls() as endpoint:
        async with secure_channel(strangers, endpoint, "bank", []) as channel:
            request = health_pb2.HealthCheckRequest()
            info = reflection_pb2.ServerReflectionRequest(list_services="")
            calls = (
                health_pb2_grpc.HealthStub(channel).Check(request, timeout=5),
                health_pb2_grpc.HealthStub(channel).Watch(request, timeout=5).read(),
                reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(iter([info]), timeout=5).read(),
            )
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        async with ControlClient(endpoint, "bank", strangers) as stranger:
            with pytest.raises(RemoteError, match="another federation"):
                await stranger.wait_ready(5)
        async with secure_channel(calling("shop"), endpoint, "bank", []) as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            reply = await stub.ServerReflectionInfo(iter([info]), timeout=5).read()
            assert len(reply.list_services_response.service) == 6
            assert (await health_pb2_grpc.HealthStub(channel).Watch(request, timeout=5).read()).status == 1


async def test_revocation_and_expiry_take_effect_on_an_open_connection(
    serving_tls, calling, issuer, monkeypatch, mutual
):
    files = issuer.files("hub")
    async with serving_tls() as endpoint, ControlClient(endpoint, "bank", calling("hub", files)) as hub:
        await hub.finish(FINISH)
        now = current_time()
        with monkeypatch.context() as patched:
            patched.setattr("vfl.pki.trust.current_time", lambda: now + timedelta(days=2))
            with pytest.raises(RemoteError, match="has expired"):
                await hub.finish(FINISH)
        await hub.finish(FINISH)
        issuer.revoke(files)
        with pytest.raises(RemoteError, match="has been revoked"):
            await hub.finish(FINISH)


async def test_the_same_name_in_another_federation_is_refused(serving_tls, mutual, calling, issuer):
    other = mutual.model_copy(update={"name": "other"})
    server = issuer.files("bank", federation="other", server_name="bank.demo.vfl.internal")
    async with serving_tls(server, other) as endpoint, ControlClient(endpoint, "bank", calling("hub")) as hub:
        with pytest.raises(RemoteError, match="another federation"):
            await hub.finish(FINISH)


def test_certificates_and_tls_mode_must_fit(handler, inbox, mutual, federation, calling):
    with pytest.raises(ConfigError, match="does not match the certificates"):
        PartyServer("bank", "127.0.0.1:0", handler, inbox, None, mutual)
    with pytest.raises(ConfigError, match="does not match the certificates"):
        PartyServer("bank", "127.0.0.1:0", handler, inbox, calling("bank"), federation)


async def test_what_is_made_for_demos_works(serving_tls, calling, mutual, tmp_path):
    files = make_federation_certificates(tmp_path, "demo", mutual.members)
    async with (
        serving_tls(files["bank"]) as endpoint,
        ControlClient(endpoint, "bank", calling("hub", files["hub"])) as hub,
    ):
        assert (await hub.finish(FINISH)).party == "bank"


class OldConnection:
    """What gRPC tells of a connection that is no longer possible, as the tests of TLS versions show."""

    def __init__(self, certificate: bytes, version: bytes | None) -> None:
        self._properties = {"x509_pem_cert": [certificate], "ssl_tls_version": [version] if version else []}

    def auth_context(self):
        return self._properties

    def peer(self):
        return "somewhere"


@pytest.mark.parametrize("version", [b"TLSv1.2", None])
async def test_a_call_over_an_older_version_would_be_refused(mutual, calling, certificates, version):
    access = Access(mutual, calling("bank"))
    pem = certificates["hub"].certificate.read_bytes()
    assert access.require_caller(OldConnection(pem, b"TLSv1.3"), "a test") == "hub"
    with pytest.raises(CertificateRefused, match=r"does not use TLSv1\.3"):
        access.require_caller(OldConnection(pem, version), "a test")
