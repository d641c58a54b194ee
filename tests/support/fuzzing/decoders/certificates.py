"""Targets: certificates, revocation lists, requests, keys and signatures, from peers and from PEM files."""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TextIO

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from support.fuzzing.edits import frame, framed
from support.fuzzing.members import ACTIVE, JOB, PASSIVE, Context, credentials, federation, folder, issuer
from support.fuzzing.registry import fuzz_target
from support.wire.certificates import Issuer
from vfl.cli.keys.output import show_certificate
from vfl.ids import Role
from vfl.pki.issuing.authority import Authority, check_request, make_request
from vfl.pki.issuing.authority_folder import read_chain, read_request, revoke_in
from vfl.pki.keyfiles import PassphraseSource, new_private_key, parse_private_key
from vfl.pki.newest_lists import NewestLists
from vfl.pki.own_certificate import check_own_certificate
from vfl.pki.parsing import list_from_pem
from vfl.pki.profile import Owner
from vfl.pki.revocation import Mark, RevocationList, check_full, check_not_older, newest
from vfl.pki.statements import Signature, Statement
from vfl.pki.trust import Trust, parse_trust
from vfl.transport.access import Access

STATEMENT = Statement("vfl/public-keys/1", "demo", JOB, 0, PASSIVE, (b"encryption key", b"agreement key"))
MUTUAL = federation("mutual")
_WEEK = timedelta(days=7)


def pem(content: bytes, label: str) -> bytes:
    """DER as the only content of a PEM file; what is PEM already stays."""
    if content.startswith(b"-----"):
        return content
    begin, end = (f"-----{what} {label}-----\n".encode() for what in ("BEGIN", "END"))
    return begin + base64.encodebytes(content) + end


def _der(path: Path) -> bytes:
    return x509.load_pem_x509_certificate(path.read_bytes()).public_bytes(Encoding.DER)


@cache
def _nowhere() -> TextIO:
    """Where the commands write to; one for all inputs, since click remembers every stream that it has seen."""
    return Path(os.devnull).open("w", encoding="utf-8")


@cache
def _chain() -> Issuer:
    return Issuer.below_a_root(folder() / "chain")


def _signed_statements() -> Iterator[bytes]:
    signed = credentials(PASSIVE).sign(STATEMENT)
    yield framed((signed.certificate, signed.intermediates, signed.signature))
    yield framed((signed.certificate, _chain().own.read_bytes(), signed.signature))
    yield framed((_der(issuer().ca), b"", b""))


@fuzz_target(_signed_statements)
def signed_statement(data: bytes) -> None:
    """A peer's certificate (DER), intermediate ones (PEM) and signature."""
    credentials(ACTIVE).verify(STATEMENT, Signature(*frame(data, 3)))


@fuzz_target(lambda: [_der(credentials(name).files.certificate) for name in (ACTIVE, PASSIVE)])
def caller_certificate(data: bytes) -> None:
    """The certificate of a caller, as gRPC hands it on."""
    shown = {"x509_pem_cert": [pem(data, "CERTIFICATE")], "ssl_tls_version": [b"TLSv1.3"]}
    Access(MUTUAL, credentials(ACTIVE)).require_caller(Context(properties=shown), "a test")


def _trusted() -> Iterator[bytes]:
    for each in (issuer(), _chain()):
        revoked = x509.load_pem_x509_crl(each.revoked.read_bytes()).public_bytes(Encoding.DER)
        yield framed((_der(each.ca), revoked))
        yield framed((each.ca.read_bytes(), each.revoked.read_bytes()))


@fuzz_target(_trusted)
def trust_files(data: bytes) -> None:
    """``tls.ca`` and ``tls.revoked``, in PEM or as the DER within."""
    authorities, lists = frame(data, 2)
    trust = parse_trust(pem(authorities, "CERTIFICATE"), pem(lists, "X509 CRL"), Path("ca.crt"))
    trust.stale_lists()
    chain = read_chain(credentials(PASSIVE).files.certificate)
    check_own_certificate(chain, MUTUAL, trust, PASSIVE)


def _list_files() -> Iterator[bytes]:
    """Lists with what real CAs put in them, and with what is refused."""
    name, now = _authority().certificate.subject, datetime.now(UTC)
    for extension in (x509.DeltaCRLIndicator(1), x509.IssuerAlternativeName([x509.DNSName("ca.example")])):
        entry = x509.RevokedCertificateBuilder().serial_number(7).revocation_date(now)
        entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
        made = x509.CertificateRevocationListBuilder().issuer_name(name).last_update(now).next_update(now + _WEEK)
        made = made.add_extension(x509.CRLNumber(3), critical=False).add_extension(extension, critical=False)
        signed = made.add_revoked_certificate(entry.build()).sign(_authority().key, hashes.SHA256())
        yield signed.public_bytes(Encoding.DER)
        yield signed.public_bytes(Encoding.PEM) * 2


@fuzz_target(_list_files)
def revocation_content(data: bytes) -> None:
    """A revocation list past its signature: what it says, and whether it may follow an earlier one."""
    lists = []
    for pem_or_der in data.split(b"\0\0\0\0") if data.startswith(b"-----") else [data]:
        try:
            content = list_from_pem(pem(pem_or_der, "X509 CRL"))
        except ValueError:
            continue
        lists.append(RevocationList(_authority().certificate, content, check_full(content)))
        lists[-1].described()
    marks = newest({}, lists)
    check_not_older(lists, marks, [_authority().certificate])
    Trust([_authority().certificate], lists).stale_lists()


@fuzz_target(lambda: [_remembered(1), _remembered(2**60), b'{"format": 1, "lists": {}}'])
def remembered_lists(data: bytes) -> None:
    """The file that says which revocation lists were in force."""
    path = folder() / "revocation_lists"
    path.write_bytes(data)
    NewestLists(path).read()


def _remembered(number: int) -> bytes:
    path = folder() / "seed_lists"
    NewestLists(path).remember({"0" * 64: Mark(number, "f" * 64, "CN=ca")})
    return path.read_bytes()


@fuzz_target(lambda: [_der(credentials(PASSIVE).files.certificate), credentials(ACTIVE).files.certificate.read_bytes()])
def certificate_file(data: bytes) -> None:
    """A certificate file: checked as this party's own, and shown by ``vfl keys show``."""
    path = folder() / "shown.crt"
    path.write_bytes(pem(data, "CERTIFICATE"))
    with contextlib.redirect_stdout(_nowhere()):
        show_certificate(path)
    check_own_certificate(read_chain(path), MUTUAL, credentials(ACTIVE).trust, PASSIVE)


@cache
def _authority() -> Authority:
    return Authority.create("demo")


@fuzz_target(lambda: [x509.load_pem_x509_crl(_authority().revoke([])).public_bytes(Encoding.DER)])
def revocation_list(data: bytes) -> None:
    """The list in a CA's own folder, to which one is added."""
    (folder() / "revoked.crl").write_bytes(pem(data, "X509 CRL"))
    revoke_in(folder(), _authority(), [])


def _requests() -> Iterator[bytes]:
    owner = Owner("demo", PASSIVE, Role.PASSIVE)
    for key in (new_private_key(), rsa.generate_private_key(65537, 2048)):
        yield make_request(key, owner, ["localhost", "127.0.0.1"]).public_bytes(Encoding.DER)


@fuzz_target(_requests)
def certificate_request(data: bytes) -> None:
    """A request that the CA is asked to sign: shown, checked and signed."""
    path = folder() / "party.csr"
    path.write_bytes(pem(data, "CERTIFICATE REQUEST"))
    with contextlib.redirect_stdout(_nowhere()):
        show_certificate(path)
    request = read_request(path)
    owner, hosts = check_request(request, MUTUAL)
    _authority().issue(owner, request.public_key(), hosts)


def _private_keys() -> Iterator[bytes]:
    formats = (serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL)
    for key in (new_private_key(), ec.generate_private_key(ec.SECP521R1()), rsa.generate_private_key(65537, 2048)):
        for form in formats:
            yield key.private_bytes(Encoding.PEM, form, serialization.NoEncryption())
    encryption = serialization.BestAvailableEncryption(b"secret")
    yield new_private_key().private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


@fuzz_target(_private_keys)
def private_key_file(data: bytes) -> None:
    """``tls.key``, encrypted or not, in PEM or as the DER within."""
    parse_private_key(pem(data, "PRIVATE KEY"), Path("party.key"), PassphraseSource(typed=b"secret"))
