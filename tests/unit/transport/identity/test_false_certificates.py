"""Servers with a certificate that TLS accepts for the bank's name, and that is not the bank's: nobody talks to them."""

from contextlib import asynccontextmanager

import pytest
from support.logs import captured_logs
from support.wire.certificates import Issuer

from vfl import messages as m
from vfl.errors import PeerUnreachable
from vfl.pki.trust import CertificateRefused, Refusal
from vfl.transport.client import ControlClient, PeerClient, RelayClient
from vfl.transport.diagnosis.call import ask_diagnosis
from vfl.transport.wire.failures import to_status

FINISH = m.Finish("job@1", "job-1", 0)
BANK, SHOP = (f"spiffe://demo/party/{name}" for name in ("bank", "shop"))
FALSE = {
    "a web server's": ({"identities": (), "role": ""}, Refusal.IDENTITY, "carries 0 identities"),
    "another party's": ({"identities": (SHOP,), "role": "passive"}, Refusal.WRONG_NAME, "lacks the server name"),
    "of another federation": ({"identities": ("spiffe://other/party/bank",)}, Refusal.OTHER_FEDERATION, "another fed"),
    "of no member": ({"identities": ("spiffe://demo/party/mallory",)}, Refusal.UNKNOWN_MEMBER, "no member"),
    "without a role": ({"identities": (BANK,), "role": ""}, Refusal.WRONG_ROLE, "not for the role 'active'"),
    "with another role": ({"identities": (BANK,), "role": "passive"}, Refusal.WRONG_ROLE, "not for the role 'active'"),
    "for any name": ({"identities": (), "role": "", "server_name": "*.demo.vfl.internal"}, Refusal.IDENTITY, "identit"),
    "the bank's for any name": ({"server_name": "*.demo.vfl.internal"}, Refusal.WRONG_NAME, "lacks the server name"),
    "with the name as CN": (
        {"identities": (), "role": "active", "common_name": "bank.demo.vfl.internal"}, Refusal.IDENTITY, "0 identities",
    ),
    "of a CA": ({"authority": True}, Refusal.IS_AUTHORITY, "the certificate is a CA's"),
    "revoked": ({}, Refusal.REVOKED, "has been revoked by its CA"),
    "of a revoked CA": (None, Refusal.REVOKED, "issued by a CA that is no longer accepted"),
}  # fmt: skip


CALLERS = {
    "coordinator": (ControlClient, "hub", lambda client, _: client.finish(FINISH)),
    "peer": (PeerClient, "shop", lambda client, share: client.deliver(*share(), 5)),
    "health": (PeerClient, "shop", lambda client, _: client.wait_ready(5)),
    "caller of a relay": (RelayClient, "shop", lambda client, _: client.connect()),
    "party behind a relay": (RelayClient, "telco", lambda client, _: client.accept()),
}


@pytest.fixture
def false_bank(serving_tls, issuer, tmp_path):
    """A server with a false certificate; gives its endpoint and the CA to trust."""

    @asynccontextmanager
    async def start(case):
        changes = FALSE[case][0]
        maker = issuer if changes is not None else Issuer.below_a_root(tmp_path / "company")
        files = maker.files("bank", **changes or {})
        if case == "revoked":
            maker.revoke(files)
        if changes is None:
            files.certificate.write_bytes(files.certificate.read_bytes() + maker.own.read_bytes())
            maker.revoke_itself()
        # A dishonest server does not care whether the caller's certificate was revoked.
        async with serving_tls(files.model_copy(update={"revoked": None})) as endpoint:
            yield endpoint, maker

    return start


def _files(maker, name):
    """A caller's own files, as if from a CA that was not revoked."""
    files = maker.files(name)
    if maker.root is not None:
        files.certificate.write_bytes(files.certificate.read_bytes() + maker.own.read_bytes())
    return files


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("case", FALSE)
async def test_nobody_says_anything_to_a_server_with_a_false_certificate(
    case, caller, false_bank, calling, share, handler, inbox, heard
):
    _, reason, says = FALSE[case]
    kind, name, call = CALLERS[caller]
    async with false_bank(case) as (endpoint, maker), kind(endpoint, "bank", calling(name, _files(maker, name))) as it:
        with captured_logs() as logs, pytest.raises(CertificateRefused) as caught:
            await call(it, share)
    error = caught.value
    assert error.reason == reason
    assert error.summary.startswith(f"what answers at {endpoint} does not prove that it is bank: ")
    assert says in error.summary
    assert "SHA-256" in error.detail
    assert endpoint in error.remedy
    assert [entry["reason"] for entry in logs if entry["event"] == "server refused"] == [reason]
    assert handler.calls == []
    assert inbox.stored_bytes == 0
    assert set(heard) == {"/vfl.transport.v1.Identity/Prove"}
    others_read = dict(to_status(error, "shop").metadata)["vfl-summary-bin"].decode()
    assert "SHA-256" not in others_read


@pytest.mark.parametrize("case", ["a web server's", "another party's"])
async def test_a_diagnosis_finds_it_too(case, false_bank, calling, mutual, heard):
    async with false_bank(case) as (endpoint, _):
        with pytest.raises(CertificateRefused, match="does not prove that it is bank"):
            await ask_diagnosis(endpoint, "bank", calling("hub"), m.Diagnose(False), mutual, 5)
    assert set(heard) == {"/vfl.transport.v1.Identity/Prove"}


async def test_the_name_as_cn_beside_the_right_uri_is_not_enough(serving_tls, calling, issuer, heard):
    """TLS refuses this one already, as it does one without server authentication."""
    async with (
        serving_tls(issuer.files("bank", common_name="bank.demo.vfl.internal")) as endpoint,
        ControlClient(endpoint, "bank", calling("hub")) as hub,
    ):
        with pytest.raises((PeerUnreachable, CertificateRefused)):
            await hub.finish(FINISH)
    assert set(heard) <= {"/vfl.transport.v1.Identity/Prove"}
