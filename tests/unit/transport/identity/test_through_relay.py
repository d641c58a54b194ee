"""A party behind a relay: the relay proves who it is to both, and the party to the caller, through the relay."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from support.federations.waiting import eventually
from support.fixtures.servers import relayed_federation
from support.logs import captured_logs
from support.wire.certificates import Unchecked
from support.wire.middleman import PROVE

from vfl import messages as m
from vfl.errors import PeerUnreachable
from vfl.pki.trust import CertificateRefused, Refusal
from vfl.runtime.private.folders import temporary_folder
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.grpc_network import GrpcNetwork
from vfl.transport.relay.tunnel import reachable_through_relay
from vfl.transport.wire.local_endpoints import local_endpoint
from vfl.transport.wire.traffic import TrafficMeter

FINISH = m.Finish("job@1", "job-1", 0)
FALSE = {
    "a web server's": {"identities": (), "role": ""},
    "another party's": {"identities": ("spiffe://demo/party/shop",)},
    "for any name": {"identities": (), "role": "", "server_name": "*.demo.vfl.internal"},
    "of a CA": {"authority": True},
    "revoked": {},
}


@pytest.fixture
def party(serving, handler, inbox, certificates):
    """A server on a free port: ``async with party("bank", files) as server``."""

    def start(name, files=None, **changes):
        federation = relayed_federation()
        credentials = Unchecked(files or certificates[name], federation, name)
        return serving(name, credentials=credentials, federation=federation, **changes)

    return start


@pytest.fixture
def false_files(issuer):
    def make(name, case):
        files = issuer.files(name, **FALSE[case])
        if case == "revoked":
            issuer.revoke(files)
        return files.model_copy(update={"revoked": None})

    return make


async def _client(stack, kind, federation, calling):
    if kind is ControlClient:
        return await GrpcNetwork(federation, calling("hub", federation=federation)).control(stack, "telco", None)
    network = GrpcNetwork(federation, calling("shop", federation=federation))
    return await network.peer(stack, "shop", "telco", TrafficMeter(), None)


@pytest.mark.parametrize("kind", [ControlClient, PeerClient])
@pytest.mark.parametrize("case", FALSE)
async def test_who_reaches_a_party_through_a_false_relay_says_nothing_and_learns_why(
    case, kind, party, false_files, calling, share, heard
):
    async with party("bank", false_files("bank", case)) as bank, AsyncExitStack() as stack:
        client = await _client(stack, kind, relayed_federation(bank.port), calling)
        for call in (lambda: client.wait_ready(20), lambda: _call(client, share)):
            with pytest.raises(CertificateRefused, match="does not prove that it is bank"):
                await _connected(call)
    assert set(heard) == {PROVE}


async def _connected(call):
    """Repeat a call as long as the connection breaks before anything is answered, as a party would."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call()
            except PeerUnreachable:
                await asyncio.sleep(0.1)


def _call(client, share):
    return client.finish(FINISH) if isinstance(client, ControlClient) else client.deliver(*share(), 5)


@pytest.mark.parametrize("case", FALSE)
async def test_a_party_waits_for_callers_at_no_false_relay(case, party, false_files, calling, heard):
    async with party("bank", false_files("bank", case)) as bank:
        federation = relayed_federation(bank.port)
        own = calling("telco", federation=federation)
        with captured_logs() as logs:
            async with reachable_through_relay(federation, "telco", "unix:nobody", own):
                await eventually(
                    lambda: any(entry["event"] == "not connected to the relay; retrying" for entry in logs)
                )
    reasons = {entry["reason"] for entry in logs if entry["event"] == "not connected to the relay; retrying"}
    assert all("does not prove that it is bank" in reason for reason in reasons), reasons
    assert set(heard) == {PROVE}


@pytest.mark.parametrize("kind", [ControlClient, PeerClient])
@pytest.mark.parametrize("case", [None, *FALSE])
async def test_the_party_behind_the_relay_proves_who_it_is_to_the_caller(
    case, kind, party, false_files, calling, share, heard, handler, certificates
):
    """The relay is honest; what is connected to it as telco answers with a false certificate."""
    async with party("bank") as bank, AsyncExitStack() as stack:
        federation = relayed_federation(bank.port)
        listening = local_endpoint(stack.enter_context(temporary_folder()) / "socket")
        files = false_files("telco", case) if case else None
        await stack.enter_async_context(party("telco", files, listen=listening))
        own = calling("telco", federation=federation)
        await stack.enter_async_context(reachable_through_relay(federation, "telco", listening, own))
        client = await _client(stack, kind, federation, calling)
        if case is None:  # the counterpart
            assert (await _proven(client)).subject == own.certificate.subject
            return
        with pytest.raises(CertificateRefused, match="does not prove that it is telco") as caught:
            await _proven(client)
    assert isinstance(caught.value.reason, Refusal)
    assert "unix:" not in caught.value.summary, "a local path means nothing to others"
    assert handler.calls == []
    assert {method for method in heard if "Relay" not in method} == {PROVE}


async def _proven(client):
    """The certificate of the party, once it is connected to its relay."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.channel(5)
            except CertificateRefused:
                raise
            except Exception:  # noqa: BLE001  # it is not connected yet
                await asyncio.sleep(0.1)
            else:
                return client._proven.chain[0]
