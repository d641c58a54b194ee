"""Mutual TLS over real sockets: who may call what."""

from contextlib import asynccontextmanager

import grpc
import pytest

from vfl import messages as m
from vfl.errors import ConfigError, PeerUnreachable, RemoteError
from vfl.transport.certificates import make_federation_certificates
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.credentials import client_credentials, server_credentials
from vfl.transport.server import PartyServer

FINISH = m.Finish("job-1")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return make_federation_certificates(tmp_path_factory.mktemp("tls"), "demo", ["hub", "bank", "shop", "telco"])


@pytest.fixture
def mutual(federation):
    config = federation.model_dump()
    config["tls"]["mode"] = "mutual"
    return type(federation).model_validate(config)


@pytest.fixture
def serving_tls(serving, mutual, certificates):
    @asynccontextmanager
    async def start(files=certificates["bank"], federation=mutual):
        async with serving(credentials=server_credentials(files), federation=federation) as server:
            yield f"127.0.0.1:{server.port}"

    return start


async def test_the_coordinator_controls_and_a_party_delivers(serving_tls, certificates, share, inbox):
    async with (
        serving_tls() as endpoint,
        ControlClient(endpoint, "bank", client_credentials(certificates["hub"])) as hub,
        PeerClient(endpoint, "bank", client_credentials(certificates["shop"])) as shop,
    ):
        await hub.wait_ready(5)
        assert (await hub.finish(FINISH, 5)).party == "bank"
        await shop.deliver(*share(), 5)
    assert await inbox.take(share()[0], 1, "a test") is not None


async def test_only_the_coordinator_controls(serving_tls, certificates, handler):
    async with serving_tls() as endpoint:
        for name in ("shop", "bank"):
            async with ControlClient(endpoint, "bank", client_credentials(certificates[name])) as caller:
                for method, call in (("finish", FINISH), ("abort", m.Abort("job-1", "x", "y", "z"))):
                    with pytest.raises(RemoteError, match="does not allow control calls") as caught:
                        await getattr(caller, method)(call, 5)
                    assert caught.value.remote_code == "access"
    assert handler.calls == []


async def test_nobody_delivers_in_the_name_of_another(serving_tls, certificates, share, inbox):
    async with serving_tls() as endpoint:
        for name in ("telco", "hub"):
            async with PeerClient(endpoint, "bank", client_credentials(certificates[name])) as caller:
                with pytest.raises(RemoteError, match="does not allow messages in this name") as caught:
                    await caller.deliver(*share(sender="shop"), 5)
                assert caught.value.remote_code == "access"
        async with PeerClient(endpoint, "bank", client_credentials(certificates["hub"])) as hub:
            with pytest.raises(RemoteError, match="not a party of this federation"):
                await hub.deliver(*share(sender="hub"), 5)
    assert inbox.stored_bytes == 0


async def test_a_caller_without_certificate_is_refused(serving_tls, certificates):
    only_ca = grpc.ssl_channel_credentials(certificates["hub"].ca.read_bytes())
    async with serving_tls() as endpoint:
        for credentials in (only_ca, None):
            async with ControlClient(endpoint, "bank", credentials) as caller:
                with pytest.raises(PeerUnreachable):
                    await caller.finish(FINISH, 5)
                with pytest.raises(PeerUnreachable):
                    await caller.wait_ready(0.5)


async def test_a_certificate_of_another_authority_is_refused_by_both_ends(serving_tls, certificates, tmp_path):
    foreign = make_federation_certificates(tmp_path, "demo", ["hub"])["hub"]
    ours = certificates["hub"]
    mixed = grpc.ssl_channel_credentials(
        ours.ca.read_bytes(), foreign.key.read_bytes(), foreign.certificate.read_bytes()
    )
    distrusts = grpc.ssl_channel_credentials(
        foreign.ca.read_bytes(), ours.key.read_bytes(), ours.certificate.read_bytes()
    )
    async with serving_tls() as endpoint:
        for credentials in (mixed, distrusts):
            async with ControlClient(endpoint, "bank", credentials) as caller:
                with pytest.raises(PeerUnreachable):
                    await caller.finish(FINISH, 5)


async def test_the_same_name_in_another_federation_is_refused(serving_tls, mutual, certificates):
    other = mutual.model_copy(update={"name": "other"})
    async with (
        serving_tls(federation=other) as endpoint,
        ControlClient(endpoint, "bank", client_credentials(certificates["hub"])) as hub,
    ):
        with pytest.raises(RemoteError, match="does not allow control calls"):
            await hub.finish(FINISH, 5)


async def test_a_server_whose_certificate_is_not_for_its_host_is_refused(serving_tls, tmp_path, monkeypatch):
    monkeypatch.setattr("vfl.transport.certificates._LOCAL_HOSTS", ("elsewhere.example",))
    files = make_federation_certificates(tmp_path, "demo", ["bank", "hub"])
    async with (
        serving_tls(files["bank"]) as endpoint,
        ControlClient(endpoint, "bank", client_credentials(files["hub"])) as hub,
    ):
        with pytest.raises(PeerUnreachable) as caught:
            await hub.finish(FINISH, 5)
    assert "Hostname Verification" in caught.value.detail


def test_certificates_and_tls_mode_must_fit(handler, inbox, mutual, federation, certificates):
    with pytest.raises(ConfigError, match="does not fit the certificates"):
        PartyServer("bank", "127.0.0.1:0", handler, inbox, None, mutual)
    with pytest.raises(ConfigError, match="does not fit the certificates"):
        PartyServer("bank", "127.0.0.1:0", handler, inbox, server_credentials(certificates["bank"]), federation)
