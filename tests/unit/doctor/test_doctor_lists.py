"""``vfl doctor`` says which revocation lists are in force, and checks the whole chain of a certificate."""

from datetime import timedelta

import pytest
from cryptography import x509
from support.federations.federation import ACTIVE, COORDINATOR, Federation
from support.federations.in_process import parties_in_process
from support.wire.certificates import Issuer

import vfl.pki.trust
from vfl.cli.doctor import diagnose_job, diagnose_party, exit_code
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.doctor.findings import FindingLog
from vfl.messages import Check, Verdict
from vfl.party.config import load_party, party_credentials
from vfl.party.self_checks import _note_revocation
from vfl.pki.trust import current_time

CLINIC = "clinic"


@pytest.fixture
def company(tmp_path) -> Issuer:
    """The intermediate CA of the clinic."""
    return Issuer.below_a_root(tmp_path / "company")


@pytest.fixture
def federation(tmp_path, company) -> Federation:
    """The bank and the coordinator have certificates of one CA, the clinic of a CA below another one."""
    federation = Federation(tmp_path, passive=(CLINIC,)).write()
    common = Issuer.make(tmp_path / "common", "test")
    places = federation.folder / "certificates"
    for name, role in ((ACTIVE, "active"), (COORDINATOR, "coordinator"), (CLINIC, "passive")):
        made = (company if name == CLINIC else common).files(name, federation="test", role=role)
        chain = made.certificate.read_bytes() + (company.own.read_bytes() if name == CLINIC else b"")
        (places / name / "party.crt").write_bytes(chain)
        (places / name / "party.key").write_bytes(made.key.read_bytes())
    (places / "ca.crt").write_bytes(common.ca.read_bytes() + company.ca.read_bytes())
    (places / "revoked.crl").write_bytes(common.revoked.read_bytes() + company.revoked.read_bytes())
    return federation


def from_coordinator(federation):
    settings = federation.path(COORDINATOR, "coordinator.toml")
    return diagnose_job(federation.path(COORDINATOR, "job.toml"), lambda: load_toml(settings, CoordinatorConfig))


def rows(findings, check, source):
    return [(f.verdict, f.summary) for f in findings if f.check is check and f.source == f.target == source]


async def test_the_list_in_force_is_shown_for_each_ca(federation, company):
    findings = await diagnose_party(federation.path(CLINIC))
    shown = dict(reversed(row) for row in rows(findings, Check.REVOCATION, CLINIC))
    listed = [text for text, verdict in shown.items() if verdict is Verdict.OK]
    assert any(text.startswith("in force for CN=root: number 1 of ") for text in listed)
    assert any(text.startswith("in force for CN=test CA,O=test: number 1 of ") for text in listed)
    due = x509.load_pem_x509_crl(company.revoked.read_bytes()).next_update_utc
    assert all(f"next update {due:%Y-%m-%d}" in text and text.endswith(" 0 entries") for text in listed)
    missing = "no revocation list of CN=middle: nothing that it issued is treated as revoked"
    assert shown[missing] is Verdict.WARNING
    assert exit_code([f for f in findings if f.check is Check.REVOCATION]) == 0
    expiry = rows(findings, Check.CERTIFICATE, CLINIC)
    assert len(expiry) == 4, "its own, the intermediate CA, and the two in tls.ca"


async def test_a_revoked_ca_above_a_party_is_reported(federation, company, tmp_path):
    async with parties_in_process(federation):
        before = await from_coordinator(federation)
        assert [f for f in before if f.verdict is Verdict.PROBLEM] == []
        company.revoke_itself()
        own = federation.path(COORDINATOR, "revoked.crl")
        common = (tmp_path / "common" / "revoked.crl").read_bytes()
        own.write_bytes(common + company.revoked.read_bytes())
        file = federation.path(COORDINATOR, "coordinator.toml")
        shared = str(federation.folder / "certificates" / "revoked.crl")
        file.write_text(file.read_text(encoding="utf-8").replace(shared, str(own)), encoding="utf-8")
        after = await from_coordinator(federation)
    found = [f for f in after if f.verdict is Verdict.PROBLEM and f.source == COORDINATOR]
    assert {(f.target, f.side) for f in found} == {(CLINIC, CLINIC)}
    assert [f.check for f in found] == [Check.CERTIFICATE]
    assert found[0].summary.startswith("it was issued by a CA that is no longer accepted")
    ok = [f for f in after if f.target == ACTIVE and f.source == COORDINATOR and f.check is Check.CERTIFICATE]
    assert ok[0].summary.endswith("1 CA(s) above it checked")


async def test_a_stale_list_is_a_warning_with_its_number(federation, monkeypatch):
    later = current_time() + timedelta(days=100)
    credentials = party_credentials(load_party(federation.path(ACTIVE)))
    monkeypatch.setattr(vfl.pki.trust, "current_time", lambda: later)
    notes = FindingLog(ACTIVE, ACTIVE)
    _note_revocation(notes, credentials)
    assert [finding.verdict for finding in notes.findings] == [Verdict.WARNING] * 2
    assert "is stale: number 1 of " in notes.findings[0].summary


async def test_a_list_that_is_older_than_one_that_was_in_force_is_a_problem(federation, tmp_path):
    party_credentials(load_party(federation.path(ACTIVE)))
    revoked = federation.folder / "certificates" / "revoked.crl"
    revoked.write_bytes((tmp_path / "company" / "revoked.crl").read_bytes())
    findings = await diagnose_party(federation.path(ACTIVE))
    (problem,) = [f for f in findings if f.verdict is Verdict.PROBLEM]
    assert (problem.check, problem.side) == (Check.CERTIFICATE, ACTIVE)
    assert "the revocation list of a CA is missing, and there was one before" in problem.summary
