"""A member whose certificate comes from an intermediate CA, after that CA was revoked."""

import pytest
from cryptography import x509
from support.logs import captured_logs
from support.wire.certificates import Issuer, Unchecked

from vfl import messages as m
from vfl.configuration.federation import TlsFiles
from vfl.errors import ConfigError, RemoteError
from vfl.pki.credentials import Credentials
from vfl.pki.revocation import parse_lists
from vfl.pki.statements import Statement
from vfl.pki.trust import CertificateRefused, Trust
from vfl.transport.client import ControlClient

FINISH = m.Finish("job@1", "job-1", 0)


@pytest.fixture
def company(tmp_path) -> Issuer:
    return Issuer.below_a_root(tmp_path / "company")


def with_chain(company: Issuer, name: str) -> TlsFiles:
    files = company.files(name)
    files.certificate.write_bytes(files.certificate.read_bytes() + company.own.read_bytes())
    return files


@pytest.mark.parametrize("at_once", [True, False], ids=["before the connection", "on an open connection"])
async def test_a_member_of_a_revoked_intermediate_ca_gets_no_call(company, serving_tls, calling, handler, at_once):
    async with (
        serving_tls(with_chain(company, "bank")) as endpoint,
        ControlClient(endpoint, "bank", calling("hub", with_chain(company, "hub"))) as hub,
    ):
        if not at_once:
            assert (await hub.finish(FINISH)).party == "bank"
        answered = len(handler.calls)
        company.revoke_itself()
        with captured_logs() as logs, pytest.raises(RemoteError, match=r"a CA that is no longer accepted.*revoked"):
            await hub.finish(FINISH)
        assert len(handler.calls) == answered
    refused = [entry for entry in logs if entry["event"] == "caller refused"]
    assert {(entry["reason"], entry["subject"]) for entry in refused} == {("revoked", "CN=hub,OU=coordinator,O=demo")}


async def test_a_revoked_ca_that_is_in_tls_ca_itself_is_refused_too(company, serving_tls, calling, tmp_path):
    """The caller need not present the intermediate certificate then."""
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(company.ca.read_bytes() + company.own.read_bytes())
    async with (
        serving_tls(company.files("bank", ca=bundle)) as endpoint,
        ControlClient(endpoint, "bank", calling("hub", company.files("hub", ca=bundle))) as hub,
    ):
        assert (await hub.finish(FINISH)).party == "bank"
        company.revoke_itself()
        with pytest.raises(RemoteError, match="revoked"):
            await hub.finish(FINISH)


def test_what_it_signed_is_refused_and_so_is_its_own_start(company, mutual):
    files = with_chain(company, "bank")
    bank = Unchecked(files, mutual, "bank")
    statement = Statement("test", "demo", "job-1", 0, "bank", (b"content",))
    signature = bank.sign(statement)
    bank.verify(statement, signature)
    company.revoke_itself()
    with pytest.raises(CertificateRefused, match="revoked"):
        bank.verify(statement, signature)
    with pytest.raises(ConfigError, match="revoked"):
        Credentials(files, mutual, "bank")


def test_certificates_that_are_not_on_the_path_do_not_count_and_paths_are_bounded(company, issuer):
    """Revoking somebody else's CA, which a caller happens to present, does not shut the caller out."""
    leaf = x509.load_pem_x509_certificate(issuer.files("bank").certificate.read_bytes())
    company.revoke_itself()
    lists = parse_lists(company.revoked.read_bytes(), [company.root.certificate])
    trust = Trust([issuer.authority.certificate], lists)
    for count in range(100):
        trust.check_chain(leaf, [company.authority.certificate] * count)
    assert len(trust._paths) <= 64
