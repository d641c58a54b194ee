import dataclasses
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from support.wire.certificates import Issuer, Unchecked

from vfl.pki.statements import Signature, Statement
from vfl.pki.trust import CertificateRefused

STATEMENT = Statement("vfl/public-keys/1", "demo", "job-1", 0, "shop", (b"encryption key", b"agreement key"))
KEYS = {
    "p256": None,
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}


@pytest.fixture
def verifier(mutual, certificates):
    return Unchecked(certificates["bank"], mutual, "bank")


def refused(verifier, signed, statement=STATEMENT):
    with pytest.raises(CertificateRefused) as caught:
        verifier.verify(statement, signed)
    return str(caught.value.reason)


@pytest.mark.parametrize("key", KEYS)
def test_a_statement_signed_by_its_sender_is_accepted(verifier, mutual, issuer, key):
    signed = Unchecked(issuer.files("shop", key=KEYS[key]), mutual, "shop").sign(STATEMENT)
    verifier.verify(STATEMENT, signed)


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "vfl/public-keys/2"},
        {"federation": "other"},
        {"run": "job-2"},
        {"attempt": 1},
        {"contents": (b"encryption key", b"agreement keY")},
        {"contents": (b"encryption keya", b"greement key")},
        {"contents": (b"encryption key",)},
    ],
)
@pytest.mark.parametrize("key", KEYS)
def test_every_part_of_a_statement_is_covered(verifier, mutual, issuer, key, change):
    signed = Unchecked(issuer.files("shop", key=KEYS[key]), mutual, "shop").sign(STATEMENT)
    assert refused(verifier, signed, dataclasses.replace(STATEMENT, **change)) == "bad-signature"


def test_the_certificate_is_covered_too(verifier, mutual, issuer):
    """Even another certificate of the same party for the same key is not the one it signed with."""
    key = ec.generate_private_key(ec.SECP256R1())
    one, other = (Unchecked(issuer.files("shop", key=key), mutual, "shop").sign(STATEMENT) for _ in range(2))
    mixed = dataclasses.replace(one, certificate=other.certificate)
    assert refused(verifier, mixed) == "bad-signature"


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("telco", {}, "wrong-member"),
        ("hub", {}, "wrong-member"),
        ("shop", {"role": "active"}, "wrong-role"),
        ("shop", {"federation": "other"}, "other-federation"),
        ("shop", {"identities": ()}, "identity"),
        ("shop", {"lasts": timedelta(minutes=1)}, "expired"),
        ("shop", {"begins": timedelta(minutes=5)}, "not-yet-valid"),
        ("shop", {"self_signed": True}, "untrusted"),
    ],
)
def test_who_may_not_sign_is_refused(verifier, mutual, issuer, name, changes, reason):
    signed = Unchecked(issuer.files(name, **changes), mutual, name).sign(STATEMENT)
    assert refused(verifier, signed) == reason


def test_another_authority_and_a_revoked_certificate_are_refused(verifier, mutual, issuer, tmp_path):
    foreign = Issuer.make(tmp_path / "foreign").files("shop")
    assert refused(verifier, Unchecked(foreign, mutual, "shop").sign(STATEMENT)) == "untrusted"
    files = issuer.files("shop")
    signed = Unchecked(files, mutual, "shop").sign(STATEMENT)
    verifier.verify(STATEMENT, signed)
    issuer.revoke(files)
    assert refused(verifier, signed) == "revoked"


def test_a_chain_travels_with_the_signature(mutual, tmp_path):
    middle = Issuer.below_a_root(tmp_path / "company")
    files = middle.files("shop")
    verifier = Unchecked(middle.files("bank"), mutual, "bank")
    assert refused(verifier, Unchecked(files, mutual, "shop").sign(STATEMENT)) == "untrusted"
    files.certificate.write_bytes(files.certificate.read_bytes() + middle.own.read_bytes())
    verifier.verify(STATEMENT, Unchecked(files, mutual, "shop").sign(STATEMENT))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_malformed_certificates_and_signatures_are_refused(certificate, intermediates, signature):
    # Nothing is looked up before the certificate has been read, so there is no need of real trust here.
    from vfl.pki.statements import verify

    with pytest.raises(CertificateRefused):
        verify(STATEMENT, Signature(certificate, intermediates, signature), None, None)


def test_a_malformed_signature_of_a_good_certificate_is_refused(verifier, mutual, certificates):
    signed = Unchecked(certificates["shop"], mutual, "shop").sign(STATEMENT)
    for broken in (b"", b"x", signed.signature[:-1], signed.signature + b"\0"):
        assert refused(verifier, dataclasses.replace(signed, signature=broken)) == "bad-signature"
    assert refused(verifier, dataclasses.replace(signed, certificate=bytes(20_000))) == "no-certificate"


names = st.text(st.characters(codec="utf-8"), max_size=8)
statements = st.builds(
    Statement, names, names, names, st.integers(0, 2**31), names, st.lists(st.binary(max_size=8), max_size=3).map(tuple)
)


@given(statements, statements)
def test_different_statements_have_different_encodings(one, other):
    assert (one.encode() == other.encode()) == (one == other)
    assert one.encode()[:1] == b"\0"  # unlike anything that TLS or a certificate request signs with this key


def test_the_fingerprint_is_short_and_of_everything_that_is_signed():
    assert len(STATEMENT.fingerprint()) == 39
    assert dataclasses.replace(STATEMENT, attempt=1).fingerprint() != STATEMENT.fingerprint()
