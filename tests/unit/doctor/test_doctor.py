"""``vfl doctor`` among real servers with real certificates: problems are found, and nothing is disturbed."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
import tomli_w
from cryptography import x509
from support.federations.federation import ACTIVE, COORDINATOR, Federation, free_ports
from support.federations.in_process import job_of, parties_in_process
from support.wire.certificates import Issuer, Unchecked

import vfl.doctor.answer
import vfl.transport.diagnosis.call
from vfl import messages as m
from vfl.cli.doctor import diagnose_job, diagnose_party, exit_code
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.doctor.probe import Prober
from vfl.errors import RemoteError
from vfl.job.digests import job_digest
from vfl.messages import Check, Verdict
from vfl.party.config import load_party
from vfl.party.process import serve_party
from vfl.pki import credentials
from vfl.pki.trust import current_time
from vfl.transport.diagnosis.call import ask_diagnosis
from vfl.version import PACKAGE_VERSION, PROTOCOL_VERSION

CLINIC, SHOP = "clinic", "shop"


@pytest.fixture
def federation(tmp_path) -> Federation:
    return Federation(tmp_path, passive=(CLINIC, SHOP))


def from_coordinator(federation):
    settings = federation.path(COORDINATOR, "coordinator.toml")
    return diagnose_job(federation.path(COORDINATOR, "job.toml"), lambda: load_toml(settings, CoordinatorConfig))


def marked(findings, verdict=Verdict.PROBLEM):
    """Who found what at whom, and who has to act."""
    return [(f.source, f.target, f.check, f.side) for f in findings if f.verdict is verdict]


def pairs(findings):
    return {(f.source, f.target) for f in findings if f.source != f.target}


def rewrite(federation, name, change):
    """Another federation.toml at one place."""
    path = federation.path(name, "federation.toml")
    content = json.loads(json.dumps(federation.federation))
    change({party["name"]: party for party in content["parties"]})
    path.write_text(tomli_w.dumps(content), encoding="utf-8")


async def test_without_problems_the_coordinator_sees_every_direction_and_the_parties_still_wait(federation):
    async with parties_in_process(federation.write()) as (parties, _):
        findings = await from_coordinator(federation)
        again = await from_coordinator(federation)
        assert not any(party.done() for party in parties.values())
    for found in (findings, again):
        assert [f for f in found if f.verdict is not Verdict.OK] == []
        names = {ACTIVE, CLINIC, SHOP}
        assert pairs(found) == {(a, b) for a in (*names, COORDINATOR) for b in names if a != b}
    assert exit_code(findings) == 0
    assert str(federation.folder) not in str(findings)
    assert not list(federation.folder.glob("*/audit"))  # calls outside of a job are in no log


async def test_parties_without_a_port_are_seen_through_their_relay(federation):
    federation.put_behind(CLINIC, ACTIVE).put_behind(SHOP, ACTIVE)
    async with parties_in_process(federation.write()):
        found = await from_coordinator(federation)
        own = await diagnose_party(federation.path(CLINIC))
    for findings in (found, own):
        assert [f for f in findings if f.verdict is not Verdict.OK] == []
    names = {ACTIVE, CLINIC, SHOP}
    assert pairs(found) == {(a, b) for a in (*names, COORDINATOR) for b in names if a != b}
    assert [f.summary for f in own if f.check is Check.LISTEN] == ["clinic opens no port and is reached through bank"]


async def test_a_party_without_a_port_that_does_not_run_is_reported_by_name(federation):
    federation.put_behind(SHOP, ACTIVE)
    async with parties_in_process(federation.write()) as (parties, _):
        parties[SHOP].cancel()
        await asyncio.gather(parties[SHOP], return_exceptions=True)
        findings = await from_coordinator(federation)
    problems = [f for f in findings if f.verdict is Verdict.PROBLEM]
    assert {(f.source, f.target, f.side) for f in problems} == {
        (who, SHOP, SHOP) for who in (COORDINATOR, ACTIVE, CLINIC)
    }
    assert {f.summary for f in problems} == {"no connection to shop, which is reached through bank"}


async def test_a_partys_view_has_its_table_its_port_and_the_others(federation):
    async with parties_in_process(federation.write()):
        findings = await diagnose_party(federation.path(CLINIC))
    assert [f for f in findings if f.verdict is not Verdict.OK] == []
    own = {f.check: f.summary for f in findings if f.source == f.target}
    assert "240 rows" in own[Check.TABLE]
    assert "in use by this party's own process" in own[Check.LISTEN]
    assert own[Check.STATE] == "clinic is waiting for a job"
    assert pairs(findings) == {(CLINIC, ACTIVE), (CLINIC, SHOP)}


async def test_before_anything_runs_the_own_port_is_a_warning_and_each_party_is_unreachable(federation):
    findings = await diagnose_party(federation.write().path(CLINIC))
    assert marked(findings, Verdict.WARNING) == [(CLINIC, CLINIC, Check.LISTEN, CLINIC)]
    assert marked(findings) == [(CLINIC, peer, Check.CONNECTION, peer) for peer in (ACTIVE, SHOP)]
    assert exit_code(findings) == 11


async def _foreign(reader, writer):
    writer.write(b"220 mail\r\n")
    writer.close()


async def test_a_port_that_another_program_uses_is_found(federation):
    port = federation.port(CLINIC)
    async with await asyncio.start_server(_foreign, "127.0.0.1", port):
        findings = await diagnose_party(federation.write().path(CLINIC))
    (found,) = [f for f in findings if f.check is Check.LISTEN]
    assert found.verdict is Verdict.PROBLEM
    assert "not by a process of this party" in found.summary
    assert exit_code([found]) == 14


async def test_a_port_at_an_address_of_another_machine_cannot_be_opened(federation):
    federation.federation["parties"][1]["listen"] = "203.0.113.7:5001"
    findings = await diagnose_party(federation.write().path(CLINIC))
    (found,) = [f for f in findings if f.check is Check.LISTEN]
    assert (found.verdict, found.code) == (Verdict.PROBLEM, "listen")
    assert "cannot be opened" in found.summary


async def test_a_party_that_does_not_run_hides_nobody(federation):
    async with parties_in_process(federation.write()) as (parties, _):
        parties[CLINIC].cancel()
        await asyncio.gather(parties[CLINIC], return_exceptions=True)
        findings = await from_coordinator(federation)
    assert marked(findings) == [(who, CLINIC, Check.CONNECTION, CLINIC) for who in (COORDINATOR, ACTIVE, SHOP)]
    states = {(f.source, f.target) for f in findings if f.check is Check.STATE}
    assert states == {(COORDINATOR, ACTIVE), (COORDINATOR, SHOP), (ACTIVE, SHOP), (SHOP, ACTIVE)}
    assert exit_code(findings) == 11


async def test_only_one_direction_works(federation):
    federation.write()
    (dead,) = free_ports(1)
    rewrite(federation, CLINIC, lambda parties: parties[ACTIVE].update(endpoint=f"127.0.0.1:{dead}"))
    async with parties_in_process(federation):
        findings = await from_coordinator(federation)
    assert (CLINIC, ACTIVE, Check.CONNECTION, ACTIVE) in marked(findings)
    assert not [f for f in findings if (f.source, f.target) == (ACTIVE, CLINIC) and f.check is Check.CONNECTION
                and f.verdict is Verdict.PROBLEM]  # fmt: skip
    differing = {(f.source, f.target) for f in findings if f.check is Check.JOB and f.verdict is Verdict.PROBLEM}
    assert differing == {(COORDINATOR, CLINIC), (ACTIVE, CLINIC), (SHOP, CLINIC), (CLINIC, SHOP)}
    assert "in: federation" in next(f.summary for f in findings if f.check is Check.JOB and f.verdict is not Verdict.OK)


async def test_a_name_that_does_not_resolve_is_a_problem_of_the_caller(federation):
    federation.federation["parties"][1] |= {"endpoint": "clinic.invalid:5001", "listen": "127.0.0.1:5001"}
    findings = await diagnose_party(federation.write().path(ACTIVE))
    assert (ACTIVE, CLINIC, Check.NAME, ACTIVE) in marked(findings)


async def test_another_job_file_at_a_party_is_reported_with_its_tables(federation):
    federation.other_job(CLINIC)["training"]["passes"] = 3
    async with parties_in_process(federation.write()):
        findings = await from_coordinator(federation)
    assert (COORDINATOR, CLINIC, Check.JOB, CLINIC) in marked(findings)
    assert {check for _, _, check, _ in marked(findings)} == {Check.JOB}
    assert next(f.summary for f in findings if f.verdict is Verdict.PROBLEM).endswith("in: training")
    assert exit_code(findings) == 9


async def test_files_changed_since_the_process_started_are_found_by_its_own_operator(federation):
    async with parties_in_process(federation.write()):
        path = federation.path(CLINIC, "job.toml")
        path.write_text(path.read_text(encoding="utf-8").replace("passes = 2", "passes = 3"), encoding="utf-8")
        findings = await diagnose_party(federation.path(CLINIC))
    assert (CLINIC, CLINIC, Check.JOB, CLINIC) in marked(findings)


@pytest.mark.parametrize(
    ("name", "verdict", "theirs"),
    [("PROTOCOL_VERSION", Verdict.PROBLEM, "9.9"), ("PACKAGE_VERSION", Verdict.WARNING, "9.9.9")],
)
async def test_a_version_mismatch_is_reported_with_both_versions(federation, monkeypatch, name, verdict, theirs):
    monkeypatch.setattr(vfl.doctor.answer, name, theirs)
    async with parties_in_process(federation.write()):
        findings = await from_coordinator(federation)
    found = [f for f in findings if f.verdict is not Verdict.OK]
    assert {(f.check, f.verdict) for f in found} == {(Check.VERSION, verdict)}
    for text in (PROTOCOL_VERSION, PACKAGE_VERSION, theirs):
        assert text in found[0].summary
    assert exit_code(findings) == (9 if verdict is Verdict.PROBLEM else 0)


@pytest.mark.parametrize(("seconds", "says"), [(45, "45 s ahead of"), (-45, "45 s behind"), (15, None)])
async def test_a_clock_that_is_wrong_is_a_warning(federation, monkeypatch, seconds, says):
    own = current_time()
    monkeypatch.setattr(vfl.transport.diagnosis.call, "current_time", lambda: own)
    monkeypatch.setattr(vfl.doctor.answer, "current_time", lambda: own + timedelta(seconds=seconds))
    async with parties_in_process(federation.write()):
        findings = await diagnose_party(federation.path(CLINIC))
    found = [f for f in findings if f.verdict is not Verdict.OK]
    assert {f.check for f in found} == ({Check.CLOCK} if says else set())
    assert all(says in f.summary for f in found)
    assert exit_code(findings) == 0


async def test_a_busy_party_is_reported_and_continues_its_run(federation):
    async with parties_in_process(federation.write()) as (parties, clients):
        setup = load_party(federation.path(CLINIC))
        prepare = m.Prepare(job_of(federation), "job-1", 0, job_digest(setup.job, setup.federation), PROTOCOL_VERSION)
        before = await clients[CLINIC].prepare(prepare)
        findings = await from_coordinator(federation)
        assert await clients[CLINIC].prepare(prepare) == before
        assert not parties[CLINIC].done()
    assert set(marked(findings)) == {(who, CLINIC, Check.STATE, CLINIC) for who in (COORDINATOR, ACTIVE, SHOP)}
    assert "busy with a run" in str(findings)
    assert exit_code(findings) == 8
    (log,) = federation.path(CLINIC, "audit").iterdir()
    assert "diagnos" not in log.read_text(encoding="utf-8")


def _certify(federation, issuer, names, **changes):
    """Put certificates of another CA in the place of those written."""
    for name in names:
        role = {ACTIVE: "active", COORDINATOR: "coordinator"}.get(name, "passive")
        made = issuer.files(name, federation="test", role=role, **(changes if name == CLINIC else {}))
        for file in ("party.crt", "party.key"):
            place = federation.folder / "certificates" / name / file
            place.write_bytes((made.certificate.parent / file).read_bytes())


def _certify_all(federation, issuer, **changes):
    _certify(federation, issuer, (*federation.names, COORDINATOR), **changes)
    for file in (issuer.ca, issuer.revoked):
        (federation.folder / "certificates" / file.name).write_bytes(file.read_bytes())


@asynccontextmanager
async def _unchecked_parties(federation, monkeypatch):
    """Parties that start whatever certificate they have, and answer nobody perhaps."""
    monkeypatch.setattr(credentials, "Credentials", Unchecked)
    parties = [asyncio.create_task(serve_party(load_party(federation.path(name)))) for name in federation.names]
    for name in federation.names:
        while _is_closed(federation.port(name)):  # nobody tells when a port opens
            assert not any(party.done() for party in parties), parties
            await asyncio.sleep(0.02)
    try:
        yield
    finally:
        for party in parties:
            party.cancel()
        await asyncio.gather(*parties, return_exceptions=True)


def _is_closed(port):
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("case", ["another federation", "expired"])
async def test_a_party_with_a_wrong_certificate_is_reported_to_both_sides(federation, tmp_path, monkeypatch, case):
    federation.write()
    issuer = Issuer.make(tmp_path / "issuer", "test")
    if case == "expired":
        _certify_all(federation, issuer, lasts=timedelta(minutes=1))
        says = "certificate has expired"
    else:
        _certify(federation, issuer, (CLINIC,))
        says = "unable to get local issuer certificate"
    own = await diagnose_party(federation.path(CLINIC))
    assert marked(own) == [(CLINIC, CLINIC, Check.CERTIFICATE, CLINIC)]
    assert exit_code(own) == 2
    async with _unchecked_parties(federation, monkeypatch):
        findings = await from_coordinator(federation)
    expected = [(who, CLINIC, Check.TLS, CLINIC) for who in (COORDINATOR, ACTIVE, SHOP)]
    assert marked(findings) == expected
    for finding in findings:
        if finding.verdict is Verdict.PROBLEM:
            assert f"{finding.source} refuses the certificate presented there: {says}" in finding.summary


async def test_a_certificate_that_expires_soon_is_a_warning_to_both_sides(federation, tmp_path):
    issuer = Issuer.make(tmp_path / "issuer", "test")
    _certify_all(federation.write(), issuer, begins=timedelta(days=-5), lasts=timedelta(days=6))
    async with parties_in_process(federation):
        own, findings = await diagnose_party(federation.path(CLINIC)), await from_coordinator(federation)
    assert marked(own, Verdict.WARNING) == [(CLINIC, CLINIC, Check.CERTIFICATE, CLINIC)]
    assert marked(findings, Verdict.WARNING) == [
        (who, CLINIC, Check.CERTIFICATE, CLINIC) for who in (COORDINATOR, ACTIVE, SHOP)
    ]
    assert exit_code(own) == exit_code(findings) == 0


async def test_a_revoked_certificate_is_reported_by_the_caller_whose_list_has_it(federation, tmp_path):
    issuer = Issuer.make(tmp_path / "issuer", "test")
    _certify_all(federation.write(), issuer)
    async with parties_in_process(federation):
        _revoke_at(federation, COORDINATOR, issuer)
        findings = await from_coordinator(federation)
    found = {(f.source, f.target, f.check, f.side): f for f in findings if f.verdict is Verdict.PROBLEM}
    assert (COORDINATOR, CLINIC, Check.CERTIFICATE, CLINIC) in found
    assert found[COORDINATOR, CLINIC, Check.CERTIFICATE, CLINIC].summary == "the certificate has been revoked by its CA"
    assert len([key for key in found if key[:2] == (COORDINATOR, CLINIC)]) == 1, found


def _revoke_at(federation, name, issuer):
    clinic = x509.load_pem_x509_certificate((federation.folder / "certificates" / CLINIC / "party.crt").read_bytes())
    own = federation.folder / name / "revoked.crl"
    own.write_bytes(issuer.authority.revoke([clinic]))
    file = federation.path(name, "coordinator.toml" if name == COORDINATOR else "party.toml")
    shared = str(federation.folder / "certificates" / "revoked.crl")
    file.write_text(file.read_text(encoding="utf-8").replace(shared, str(own)), encoding="utf-8")


async def test_a_party_probes_the_others_once_for_all_who_ask_at_a_time(federation, monkeypatch):
    probed = []
    real = vfl.doctor.answer.probe_others

    async def counting(own):
        probed.append(own.name)
        return await real(own)

    monkeypatch.setattr(vfl.doctor.answer, "probe_others", counting)
    async with parties_in_process(federation.write()):
        own = _standpoint(federation)
        replies = await asyncio.gather(*(_ask(own, CLINIC) for _ in range(4)))
        replies.append(await _ask(own, CLINIC))
        assert probed == [CLINIC]
        assert {reply.diagnosis.findings for reply in replies} == {replies[0].diagnosis.findings}
        monkeypatch.setattr(vfl.doctor.answer, "REUSE_SECONDS", 0.0)
        await _ask(own, CLINIC)
    assert probed == [CLINIC, CLINIC]


def _standpoint(federation, name=COORDINATOR):
    setup = load_party(federation.path(CLINIC))
    file = federation.path(COORDINATOR, "coordinator.toml")
    tls = (
        load_toml(file, CoordinatorConfig).tls if name == COORDINATOR else load_party(federation.path(name)).config.tls
    )
    shown = credentials.Credentials(tls, setup.federation, name)
    return Prober(name, setup.federation, job_digest(setup.job, setup.federation), shown)


def _ask(own, peer, *, probe_peers=True):
    endpoint = own.federation.party(peer).endpoint
    return ask_diagnosis(endpoint, peer, own.credentials, m.Diagnose(probe_peers), own.federation, 10)


async def test_a_passive_party_cannot_make_another_probe(federation):
    async with parties_in_process(federation.write()):
        with pytest.raises(RemoteError, match="does not allow probes of other parties"):
            await _ask(_standpoint(federation, SHOP), CLINIC)
        assert (await _ask(_standpoint(federation, SHOP), CLINIC, probe_peers=False)).diagnosis.findings == ()


async def test_without_credentials_nobody_is_dialed_and_the_reason_is_reported(federation):
    federation.write().path(COORDINATOR, "coordinator.toml").write_text("", encoding="utf-8")
    findings = await from_coordinator(federation)
    assert marked(findings) == [(COORDINATOR, COORDINATOR, Check.CERTIFICATE, COORDINATOR)]
    assert "set tls.ca, tls.certificate and tls.key in coordinator.toml" in findings[-1].remedy
    assert pairs(findings) == set()


async def test_without_tls_the_rest_is_checked_and_its_absence_is_a_warning(federation, monkeypatch):
    federation.without_tls()
    async with _unchecked_parties(federation.write(), monkeypatch):
        findings = await from_coordinator(federation)
    assert marked(findings) == []
    assert marked(findings, Verdict.WARNING) == [(COORDINATOR, COORDINATOR, Check.CERTIFICATE, COORDINATOR)]
    assert {f.check for f in findings if f.source == ACTIVE} == {
        Check.NAME, Check.CONNECTION, Check.ANSWER, Check.VERSION, Check.JOB, Check.CLOCK, Check.STATE,
    }  # fmt: skip


async def test_without_tls_another_party_at_an_endpoint_is_found(federation, monkeypatch):
    federation.without_tls()
    federation.write()
    endpoints = {party["name"]: party["endpoint"] for party in federation.federation["parties"]}

    def swap(parties):
        parties[ACTIVE]["endpoint"], parties[CLINIC]["endpoint"] = endpoints[CLINIC], endpoints[ACTIVE]

    rewrite(federation, COORDINATOR, swap)
    async with _unchecked_parties(federation, monkeypatch):
        findings = await from_coordinator(federation)
    found = {(f.target, f.check): f.summary for f in findings if f.verdict is Verdict.PROBLEM}
    assert found[CLINIC, Check.ANSWER] == "a party other than clinic answers"
    assert found[ACTIVE, Check.ANSWER] == "a party other than bank answers"
