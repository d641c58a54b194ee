"""CAs that are limited to some names: the limit holds for identities, too, or nothing of theirs is accepted."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from support.wire.certificates import Issuer

from vfl.pki.issuing.authority import Authority
from vfl.pki.keyfiles import new_private_key
from vfl.pki.trust import CertificateRefused, Trust, member_of

BANK, BANK_DNS = "spiffe://demo/party/bank", "bank.demo.vfl.internal"


def limited(tmp_path, *names):
    """A CA that may issue only for these names, and whatever it issues all the same."""
    key, now = new_private_key(), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "limited")])
    usage = {"digital_signature": False, "content_commitment": False, "key_encipherment": False}
    usage |= {"data_encipherment": False, "key_agreement": False, "encipher_only": False, "decipher_only": False}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(5)
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=9))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.KeyUsage(key_cert_sign=True, crl_sign=True, **usage), critical=True)
        .add_extension(x509.NameConstraints(list(names), None), critical=True)
        .sign(key, hashes.SHA256())
    )
    issuer = Issuer(tmp_path, Authority(key, certificate))
    issuer.ca.write_bytes(certificate.public_bytes(Encoding.PEM))
    return issuer


def admitted(issuer, federation, name, **changes):
    certificate = issuer.certificate(name, new_private_key(), **changes)
    try:
        found = member_of(certificate, federation)
        Trust([issuer.authority.certificate]).check_chain(certificate)
    except CertificateRefused:
        return None
    return found


@pytest.fixture
def bank_only(tmp_path):
    return limited(tmp_path, x509.DNSName(BANK_DNS))


def test_a_ca_for_the_names_of_one_party_can_issue_for_that_party(bank_only, mutual):
    assert admitted(bank_only, mutual, "bank") == "bank"


@pytest.mark.parametrize("name", ["shop", "hub"])
@pytest.mark.parametrize("dns", ["its own", "the bank's"])
def test_it_cannot_issue_for_the_identity_of_another(bank_only, mutual, name, dns):
    changes = {} if dns == "its own" else {"server_name": BANK_DNS}
    assert admitted(bank_only, mutual, name, **changes) is None


def test_a_coordinator_of_an_unlimited_ca_needs_no_dns_name(issuer, mutual):
    assert admitted(issuer, mutual, "hub", server_name="somewhere.example") == "hub"


@pytest.mark.parametrize("names", [("demo",), ("other",), ("demo", BANK_DNS)])
def test_nothing_of_a_ca_with_limited_uris_is_accepted(tmp_path, mutual, names):
    """The library cannot check such limits, and refuses what it cannot check."""
    uris = [x509.UniformResourceIdentifier(names[0]), *(x509.DNSName(name) for name in names[1:])]
    assert admitted(limited(tmp_path, *uris), mutual, "bank") is None
