"""Certificates, requests and lists with one wrong field, which cryptography may notice only when it is used."""

import base64
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from support.wire.certificates import Unchecked

from vfl.errors import ConfigError
from vfl.ids import Role
from vfl.pki.issuing.authority import Authority, make_request
from vfl.pki.issuing.authority_folder import read_chain, read_request, revoke_in
from vfl.pki.keyfiles import new_private_key
from vfl.pki.profile import Owner
from vfl.pki.statements import Signature, Statement
from vfl.pki.trust import CertificateRefused, parse_trust
from vfl.transport.access import Access

P256 = bytes.fromhex("2a8648ce3d030107")
STATEMENT = Statement("vfl/public-keys/1", "demo", "job-1", 0, "shop", (b"key",))
CHANGES = {
    "version": (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x05"),
    "curve": (P256, P256[:-1] + b"\x63"),
    "point": (P256 + b"\x03\x42\x00\x04", P256 + b"\x03\x42\x00\x09"),
    "subject": (b"\x0c\x04shop", b"\x0a\x04shop"),
    "subject's type": (b"\x0c\x04shop", b"\x03\x04\x00hop"),
    "issuer": (b"\x0c\x07demo CA", b"\x0b\x07demo CA"),
    "extensions": (b"spiffe://demo", b"spiff\xff://demo"),
}


def changed(der: bytes, what: str) -> bytes:
    before, after = CHANGES[what]
    assert before in der
    return der.replace(before, after, 1)


def pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(der) + f"-----END {label}-----\n".encode()


def der_of(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


@pytest.fixture
def bank(mutual, certificates):
    return Unchecked(certificates["bank"], mutual, "bank")


@pytest.fixture
def shops(certificates):
    return der_of(certificates["shop"].certificate)


@pytest.mark.parametrize("what", CHANGES)
def test_of_a_statement(bank, shops, what):
    with pytest.raises(CertificateRefused, match="no readable certificate"):
        bank.verify(STATEMENT, Signature(changed(shops, what), b"", b""))


@pytest.mark.parametrize("what", CHANGES)
def test_between_a_statement_and_the_ca(bank, shops, what):
    with pytest.raises(CertificateRefused, match="no readable certificate"):
        bank.verify(STATEMENT, Signature(shops, pem(changed(shops, what)), b""))


class _Context:
    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate

    def auth_context(self):
        return {"x509_pem_cert": [self._certificate], "ssl_tls_version": [b"TLSv1.3"]}

    def peer(self):
        return "ipv4:127.0.0.1:1"


@pytest.mark.parametrize("what", CHANGES)
async def test_of_a_caller(bank, mutual, shops, what):
    with pytest.raises(CertificateRefused, match="it cannot be read"):
        Access(mutual, bank).require_caller(_Context(pem(changed(shops, what))), "a test")


@pytest.mark.parametrize("what", CHANGES)
def test_in_a_file(shops, what, tmp_path):
    (tmp_path / "party.crt").write_bytes(pem(changed(shops, what)))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_chain(tmp_path / "party.crt")


@pytest.mark.parametrize("what", ["version", "issuer"])
def test_of_a_ca(issuer, what):
    with pytest.raises(ConfigError, match="not a PEM certificate"):
        parse_trust(pem(changed(der_of(issuer.ca), what)), None, issuer.ca)


def test_a_ca_with_a_key_of_an_unknown_kind_does_not_spoil_the_others(issuer):
    unknown = pem(changed(der_of(issuer.ca), "curve"))
    assert len(parse_trust(issuer.ca.read_bytes() + unknown, issuer.revoked.read_bytes(), issuer.ca).authorities) == 2


@pytest.mark.parametrize("what", ["curve", "point", "subject", "subject's type"])
def test_of_a_request(what, tmp_path):
    made = make_request(new_private_key(), Owner("demo", "shop", Role.PASSIVE), []).public_bytes(Encoding.DER)
    (tmp_path / "party.csr").write_bytes(pem(changed(made, what), "CERTIFICATE REQUEST"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_request(tmp_path / "party.csr")


def test_a_revocation_list_of_an_unknown_version(issuer, tmp_path):
    der = x509.load_pem_x509_crl(issuer.revoked.read_bytes()).public_bytes(Encoding.DER)
    unknown = pem(der.replace(b"\x02\x01\x01", b"\x02\x01\x11", 1), "X509 CRL")
    with pytest.raises(ConfigError, match="malformed revocation list"):
        parse_trust(issuer.ca.read_bytes(), unknown, issuer.ca)
    (tmp_path / "revoked.crl").write_bytes(unknown)
    with pytest.raises(ConfigError, match="cannot be read"):
        revoke_in(tmp_path, issuer.authority, [])


def test_a_revocation_list_without_a_number_is_continued():
    authority = Authority.create("demo")
    numbered = x509.load_pem_x509_crl(authority.revoke([]))
    builder = x509.CertificateRevocationListBuilder().issuer_name(authority.certificate.subject)
    builder = builder.last_update(numbered.last_update_utc).next_update(numbered.next_update_utc)
    earlier = builder.sign(authority.key, hashes.SHA256())
    added = x509.load_pem_x509_crl(authority.revoke([], earlier))
    assert added.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 1
