"""Every new connection begins with a proof, whatever happened to the one before."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import grpc
import pytest
from support.federations.federation import free_ports
from support.federations.waiting import eventually
from support.wire.certificates import Issuer, Unchecked
from support.wire.middleman import PROVE, Middleman, answering
from support.wire.proxy import Proxy

from vfl import messages as m
from vfl.errors import PeerUnreachable
from vfl.pki.trust import CertificateRefused, current_time
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.client.identity import ProvenChannel

FINISH = m.Finish("job@1", "job-1", 0)
CONTROL = "/vfl.transport.v1.Control/Finish"


@pytest.fixture
def bank(serving, mutual, certificates):
    """The bank's server on a port that others may take after it."""

    @asynccontextmanager
    async def start(port=0, files=certificates["bank"]):
        credentials = Unchecked(files, mutual, "bank")
        async with serving(credentials=credentials, federation=mutual, listen=f"127.0.0.1:{port}") as server:
            yield server.port

    return start


async def _nothing(*_):
    return b""


def _lost(client):
    return client._proven.channel.get_state() is not grpc.ChannelConnectivity.READY


@pytest.mark.parametrize(("kind", "name"), [(ControlClient, "hub"), (PeerClient, "shop")])
async def test_an_impostor_that_takes_over_the_port_in_mid_run_hears_nothing(
    kind, name, bank, calling, issuer, share, handler
):
    def call(client):
        return client.finish(FINISH) if kind is ControlClient else client.deliver(*share(), 5)

    impostor = Middleman(_nothing)
    async with bank() as port:
        client = kind(f"127.0.0.1:{port}", "bank", calling(name))
        await call(client)
    async with client, answering(impostor, issuer.files("bank", identities=(), role=""), port):
        await eventually(lambda: _lost(client))
        with pytest.raises(CertificateRefused, match="does not prove that it is bank"):
            await call(client)
    assert set(impostor.heard) == {PROVE}


async def test_grpc_reconnects_by_itself_to_nobody_else(bank, calling, issuer, monkeypatch):
    """As between a look at the connection and the call: the channel seems ready, and gRPC connects it once more."""
    monkeypatch.setattr(ProvenChannel, "is_usable", lambda *_: True)
    impostor = Middleman(_nothing)
    async with bank() as port:
        client = ControlClient(f"127.0.0.1:{port}", "bank", calling("hub"))
        await client.finish(FINISH)
    async with client:
        # As good as the bank's but for the key: the bank's identity, role and name, from the right CA.
        async with answering(impostor, issuer.files("bank"), port):
            for _ in range(3):
                with pytest.raises(PeerUnreachable):
                    await client.finish(FINISH)
        assert impostor.heard == []
        async with bank(port):  # the counterpart: gRPC does reconnect, to the bank
            assert await _answered(client)


async def _answered(client):
    async with asyncio.timeout(30):
        while True:
            try:
                return (await client.finish(FINISH)).party == "bank"
            except PeerUnreachable:
                await asyncio.sleep(0.1)


async def test_a_party_that_comes_back_with_a_renewed_certificate_is_known(bank, calling, issuer, heard):
    async with bank() as port:
        client = ControlClient(f"127.0.0.1:{port}", "bank", calling("hub"))
        await client.finish(FINISH)
    async with client, bank(port, issuer.files("bank")):
        await eventually(lambda: _lost(client))
        assert (await client.finish(FINISH)).party == "bank"
    assert heard.count(CONTROL) == 2
    assert heard.index(CONTROL) < heard.index(PROVE, heard.index(CONTROL)) < len(heard) - 1


async def test_a_cut_connection_is_followed_by_another_proof_before_the_next_call(bank, calling, heard):
    (front,) = free_ports(1)
    async with bank() as port:
        with Proxy(front, port) as proxy:
            async with ControlClient(f"127.0.0.1:{front}", "bank", calling("hub")) as client:
                for _ in range(3):
                    heard.clear()
                    await client.finish(FINISH)
                    await client.finish(FINISH)
                    assert heard[-3:] == [PROVE, CONTROL, CONTROL]
                    proxy.reset_all()
                    await eventually(lambda: _lost(client))


async def test_calls_at_once_share_one_proof(bank, calling, heard):
    async with bank() as port, ControlClient(f"127.0.0.1:{port}", "bank", calling("hub")) as client:
        await asyncio.gather(*(client.finish(FINISH) for _ in range(8)))
    assert heard.count(PROVE) == 2  # on the connection that showed the certificate, and on the one that is bound to it
    assert heard.count(CONTROL) == 8


async def test_a_party_that_is_revoked_during_a_connection_gets_no_further_call(bank, calling, issuer, handler):
    files = issuer.files("bank")
    async with (
        bank(files=files.model_copy(update={"revoked": None})) as port,
        ControlClient(f"127.0.0.1:{port}", "bank", calling("hub")) as client,
    ):
        await client.finish(FINISH)
        issuer.revoke(files)
        with pytest.raises(CertificateRefused, match="the certificate has been revoked by its CA"):
            await client.finish(FINISH)
    assert len(handler.calls) == 1


async def test_a_party_whose_ca_is_revoked_during_a_connection_gets_no_further_call(bank, calling, tmp_path, handler):
    company = Issuer.below_a_root(tmp_path / "company")
    files = {name: company.files(name) for name in ("bank", "hub")}
    for each in files.values():
        each.certificate.write_bytes(each.certificate.read_bytes() + company.own.read_bytes())
    async with (
        bank(files=files["bank"].model_copy(update={"revoked": None})) as port,
        ControlClient(f"127.0.0.1:{port}", "bank", calling("hub", files["hub"])) as client,
    ):
        await client.finish(FINISH)
        company.revoke_itself()
        with pytest.raises(CertificateRefused, match="no longer accepted"):
            await client.finish(FINISH)
    assert len(handler.calls) == 1


async def test_a_party_whose_certificate_expires_during_a_connection_gets_no_further_call(
    bank, calling, issuer, monkeypatch, handler
):
    hub = issuer.files("hub", lasts=timedelta(days=9))
    async with bank() as port, ControlClient(f"127.0.0.1:{port}", "bank", calling("hub", hub)) as client:
        await client.finish(FINISH)
        later = current_time() + timedelta(days=2)
        monkeypatch.setattr("vfl.pki.trust.current_time", lambda: later)
        with pytest.raises(CertificateRefused, match="the certificate has expired"):
            await client.finish(FINISH)
    assert len(handler.calls) == 1
