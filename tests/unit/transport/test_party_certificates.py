import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from vfl.errors import ConfigError
from vfl.transport import certificates
from vfl.transport.certificates import make_federation_certificates
from vfl.transport.credentials import client_credentials, server_credentials

BANK = "spiffe://demo/party/bank"


@pytest.fixture
def files(tmp_path):
    return make_federation_certificates(tmp_path / "tls", "demo", ["bank", "hub"], ["bank.example", "10.1.2.3"])


def test_a_certificate_names_its_party_and_hosts_and_is_short_lived(files):
    certificate = x509.load_pem_x509_certificate(files["bank"].certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [BANK]
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "bank.example"}
    assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"127.0.0.1", "::1", "10.1.2.3"}
    assert certificate.not_valid_after_utc <= datetime.now(UTC) + timedelta(days=30)
    ca = x509.load_pem_x509_certificate(files["bank"].ca.read_bytes())
    certificate.verify_directly_issued_by(ca)


def test_keys_are_private_differ_and_the_ca_key_is_not_stored(files, tmp_path):
    keys = sorted((tmp_path / "tls").rglob("*.key"))
    assert keys == sorted(f.key for f in files.values())
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)
    assert len({key.read_bytes() for key in keys}) == 2
    stored = b"".join(p.read_bytes() for p in (tmp_path / "tls").rglob("*") if p.is_file())
    assert stored.count(b"PRIVATE KEY-----\n") == 2 * len(keys)


def test_certificates_are_never_overwritten(files, tmp_path):
    with pytest.raises(ConfigError, match="already"):
        make_federation_certificates(tmp_path / "tls", "demo", ["bank"])


@pytest.mark.parametrize("load", [server_credentials, client_credentials])
def test_files_of_one_party_load(files, load):
    assert load(files["bank"]) is not None
    assert load(files["bank"], BANK) is not None


@pytest.mark.parametrize("load", [server_credentials, client_credentials])
@pytest.mark.parametrize(
    ("replace", "says"),
    [
        ({"key": "missing"}, "'tls.key' cannot be read"),
        ({"ca": "key"}, "'tls.ca' is not a PEM certificate"),
        ({"certificate": "key"}, "'tls.certificate' is not a PEM certificate"),
        ({"key": "certificate"}, "not an unencrypted PEM private key"),
        ({"key": "other key"}, "does not belong to the certificate"),
    ],
)
def test_wrong_files_are_named(files, load, replace, says):
    bank = files["bank"]
    paths = {
        "missing": bank.key.with_name("none"),
        "key": bank.key,
        "certificate": bank.certificate,
        "other key": files["hub"].key,
    }
    with pytest.raises(ConfigError, match=says) as caught:
        load(bank.model_copy(update={name: paths[other] for name, other in replace.items()}))
    assert str(bank.key.parent.parent) not in caught.value.summary + caught.value.remedy


def test_a_certificate_of_another_party_is_refused(files):
    with pytest.raises(ConfigError, match="not for this party") as caught:
        server_credentials(files["hub"], BANK)
    assert BANK in caught.value.detail


def test_an_expired_certificate_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "VALID_FOR", timedelta(seconds=-1))
    files = make_federation_certificates(tmp_path, "demo", ["bank"])["bank"]
    with pytest.raises(ConfigError, match="expired"):
        client_credentials(files)
