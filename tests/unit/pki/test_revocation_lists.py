"""Revocation lists that would re-admit somebody: refused at the start, and not put in force while running."""

import errno
import json
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from support.logs import captured_logs

from vfl.errors import ConfigError
from vfl.pki.credentials import Credentials
from vfl.pki.newest_lists import NewestLists
from vfl.pki.revocation import parse_lists
from vfl.pki.trust import CertificateRefused

PLACE = [x509.UniformResourceIdentifier("http://ca.example/crl")]
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
NOT_READ = "changed revocation lists are not used; the previous ones stay in force"


def limited_to(**only):
    options = {"only_contains_user_certs": False, "only_contains_ca_certs": False, "indirect_crl": False} | only
    return x509.IssuingDistributionPoint(
        full_name=options.pop("full_name", None), relative_name=None, only_some_reasons=None,
        only_contains_attribute_certs=False, **options,
    )  # fmt: skip


def signed(issuer, number, *extensions, serials=(), of_entries=()):
    """A list in PEM with this number and these (extension, critical)."""
    now = datetime.now(UTC)
    name = issuer.authority.certificate.subject
    builder = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now)
    builder = builder.next_update(now + timedelta(days=9))
    if number is not None:
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
        for extension, critical in of_entries:
            entry = entry.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.authority.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def serial_of(files):
    return x509.load_pem_x509_certificate(files.certificate.read_bytes()).serial_number


@pytest.fixture
def clinic(issuer):
    """A member that was revoked by list number 5."""
    files = issuer.files("shop")
    issuer.revoked.write_bytes(signed(issuer, 5, serials=[serial_of(files)]))
    return x509.load_pem_x509_certificate(files.certificate.read_bytes())


def is_admitted(credentials, certificate):
    try:
        credentials.trust.check_chain(certificate)
    except CertificateRefused as error:
        return error.reason != "revoked"
    return True


REFUSED = {
    "a delta": (6, [(x509.DeltaCRLIndicator(5), True)], "lists only changes since another list"),
    "a delta that is not critical": (6, [(x509.DeltaCRLIndicator(5), False)], "lists only changes"),
    "only CAs": (6, [(limited_to(only_contains_ca_certs=True), True)], "covers only a part of its CA's certificates"),
    "only users": (6, [(limited_to(only_contains_user_certs=True), False)], "covers only a part"),
    "a distribution point": (6, [(limited_to(full_name=PLACE), True)], "covers only a part"),
    "an unknown critical extension": (6, [(UNKNOWN, True)], "has an unknown critical extension"),
    "no number": (None, [], "has no CRL number"),
    "an older one": (4, [], "is older than the one before"),
    "the same number, with other content": (5, [], "other content than the one before, but the same number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_list_that_would_admit_the_revoked_is_not_put_in_force(issuer, mutual, clinic, case):
    number, extensions, says = REFUSED[case]
    credentials = Credentials(issuer.files("bank"), mutual, "bank")
    issuer.revoked.write_bytes(signed(issuer, number, *extensions))
    with captured_logs() as logs:
        for _ in range(3):
            assert not is_admitted(credentials, clinic)
    warned = [entry["reason"] for entry in logs if entry["event"] == NOT_READ]
    assert len(warned) == 1
    assert says in warned[0]
    assert "What to do: " in warned[0]
    assert credentials.generation == 0


@pytest.mark.parametrize("case", [name for name in REFUSED if "older" not in name and "same" not in name])
def test_a_process_does_not_start_with_such_a_list(issuer, mutual, case):
    number, extensions, says = REFUSED[case]
    issuer.revoked.write_bytes(signed(issuer, number, *extensions))
    with pytest.raises(ConfigError, match=says) as raised:
        Credentials(issuer.files("bank"), mutual, "bank")
    assert "issuer CN=demo CA" in raised.value.detail
    assert "issuer" not in raised.value.summary
    assert raised.value.remedy


@pytest.mark.parametrize("extension", [UNKNOWN, x509.CertificateIssuer([x509.DNSName("other.example")])])
def test_a_critical_extension_of_an_entry_is_refused_unless_known(issuer, extension):
    reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
    assert parse_lists(
        signed(issuer, 1, serials=[7], of_entries=[(reason, True), (UNKNOWN, False)]), [issuer.authority.certificate]
    )
    with pytest.raises(ConfigError, match="unknown critical extension") as raised:
        parse_lists(signed(issuer, 1, serials=[7], of_entries=[(extension, True)]), [issuer.authority.certificate])
    assert "of entry 7" in raised.value.detail


def test_a_newer_list_is_put_in_force_whatever_came_between(issuer, mutual, clinic):
    credentials = Credentials(issuer.files("bank"), mutual, "bank")
    issuer.revoked.write_bytes(signed(issuer, 4))
    assert not is_admitted(credentials, clinic)
    issuer.revoked.write_bytes(signed(issuer, 6))  # the CA took the entry back, as it may
    assert is_admitted(credentials, clinic)
    assert credentials.generation == 1
    issuer.revoked.write_bytes(signed(issuer, 5, serials=[clinic.serial_number]))
    assert is_admitted(credentials, clinic)


def test_a_list_that_is_gone_stays_in_force(issuer, mutual, clinic):
    credentials = Credentials(issuer.files("bank"), mutual, "bank")
    issuer.revoked.unlink()
    assert not is_admitted(credentials, clinic)


def test_a_list_that_is_missing_beside_that_of_another_ca_stays_in_force(issuer, mutual, clinic, tmp_path):
    other = type(issuer).make(tmp_path / "other")
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(issuer.ca.read_bytes() + other.ca.read_bytes())
    credentials = Credentials(issuer.files("bank", ca=bundle), mutual, "bank")
    issuer.revoked.write_bytes(other.revoked.read_bytes())
    with captured_logs() as logs:
        assert not is_admitted(credentials, clinic)
    assert "the revocation list of a CA is missing" in str(logs)


def test_a_list_that_is_refused_does_not_hold_up_the_renewal_of_the_certificate(issuer, mutual, clinic):
    files = issuer.files("bank")
    credentials = Credentials(files, mutual, "bank")
    issuer.revoked.write_bytes(signed(issuer, 4))
    with captured_logs() as logs:
        assert not is_admitted(credentials, clinic)
        renewed = issuer.files("bank")
        for source, target in ((renewed.key, files.key), (renewed.certificate, files.certificate)):
            source.replace(target)
        assert not is_admitted(credentials, clinic)
    assert [entry["event"] for entry in logs].count(NOT_READ) == 1, "once for each list, not for each change"
    assert credentials.certificate.serial_number == serial_of(files)
    assert credentials.generation == 1


def test_the_newest_list_of_a_ca_in_a_file_counts(issuer, mutual, clinic):
    new, old = signed(issuer, 9, serials=[clinic.serial_number]), signed(issuer, 3)
    for content in (old + new, new + old):
        issuer.revoked.write_bytes(content)
        assert not is_admitted(Credentials(issuer.files("bank"), mutual, "bank"), clinic)
    issuer.revoked.write_bytes(new + signed(issuer, 9))
    with pytest.raises(ConfigError, match="two different revocation lists of a CA have the same number"):
        Credentials(issuer.files("bank"), mutual, "bank")


# --- over restarts ---


@pytest.fixture
def remembered(tmp_path):
    return tmp_path / "state" / "revocation_lists"


@pytest.mark.parametrize("then", ["older", "same number", "missing", "tls.revoked is not set"])
def test_a_restart_does_not_bring_an_older_list_back(issuer, mutual, clinic, remembered, then):
    files = issuer.files("bank")
    Credentials(files, mutual, "bank", NewestLists(remembered))
    assert stat.S_IMODE(remembered.stat().st_mode) == 0o600
    match then:
        case "older":
            issuer.revoked.write_bytes(signed(issuer, 4))
        case "same number":
            issuer.revoked.write_bytes(signed(issuer, 5))
        case "missing":
            other = type(issuer).make(remembered.parent / "other")
            files = files.model_copy(update={"ca": remembered.parent / "both.crt"})
            files.ca.write_bytes(issuer.ca.read_bytes() + other.ca.read_bytes())
            issuer.revoked.write_bytes(other.revoked.read_bytes())
        case _:
            files = files.model_copy(update={"revoked": None})
    with pytest.raises(ConfigError, match="revocation list") as raised:
        Credentials(files, mutual, "bank", NewestLists(remembered))
    assert f"remove {remembered}" in raised.value.remedy
    assert str(remembered) not in raised.value.summary
    remembered.unlink()
    Credentials(files, mutual, "bank", NewestLists(remembered))


def test_what_a_running_process_takes_over_is_remembered_durably(issuer, mutual, clinic, remembered):
    credentials = Credentials(issuer.files("bank"), mutual, "bank", NewestLists(remembered))
    issuer.revoked.write_bytes(signed(issuer, 8))
    assert is_admitted(credentials, clinic)
    (mark,) = NewestLists(remembered).read().values()
    assert (mark.number, mark.issuer) == (8, "CN=demo CA,O=demo")


def test_a_ca_that_is_no_longer_trusted_needs_no_list(issuer, mutual, clinic, remembered, tmp_path):
    Credentials(issuer.files("bank"), mutual, "bank", NewestLists(remembered))
    other = type(issuer).make(tmp_path / "other")
    Credentials(other.files("bank"), mutual, "bank", NewestLists(remembered))
    assert {mark.number for mark in NewestLists(remembered).read().values()} == {1, 5}


def test_a_command_that_only_looks_changes_nothing(issuer, mutual, clinic, remembered):
    Credentials(issuer.files("bank"), mutual, "bank", NewestLists(remembered, changes=False))
    assert not remembered.exists()


def test_a_full_disk_does_not_stop_a_renewal_and_is_logged_once(issuer, mutual, clinic, remembered, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vfl.runtime.durable_files.write_file", full)
    with captured_logs() as logs:
        credentials = Credentials(issuer.files("bank"), mutual, "bank", NewestLists(remembered))
        issuer.revoked.write_bytes(signed(issuer, 8))
        assert is_admitted(credentials, clinic)
    assert [entry["event"] for entry in logs].count(
        "revocation lists cannot be remembered: after a restart an older one is not noticed"
    ) == 1


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"format": 2, "lists": {}}', b'{"format": 1, "lists": {"x": {}}}', b"[" * 10_000,
     json.dumps({"format": 1, "lists": {"0" * 64: {"number": -1, "digest": "0" * 64, "issuer": ""}}}).encode(),
     b" " * (1 << 19)],
)  # fmt: skip
def test_a_damaged_file_is_refused_and_left_alone(tmp_path, content):
    (tmp_path / "lists").write_bytes(content)
    with pytest.raises(ConfigError, match="remembers revocation lists cannot be used") as raised:
        NewestLists(tmp_path / "lists").read()
    assert "remove the file" in raised.value.remedy
    assert (tmp_path / "lists").read_bytes() == content
