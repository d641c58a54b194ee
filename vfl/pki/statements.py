"""Binds a party's statement, as plain bytes, to its identity by signing it with the key of its certificate.

A connection authenticates only the direct neighbor. A signed statement remains authentic through any relay.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from vfl.configuration.federation import FederationConfig
from vfl.pki.keyfiles import PrivateKey
from vfl.pki.parsing import certificate_from_der, certificates_from_pem
from vfl.pki.server_certificate import check_server
from vfl.pki.trust import CertificateRefused, Refusal, Trust, member_of

NONCE_BYTES = 32
_IDENTITY = "vfl/identity/1"
_MAX_CERTIFICATE_BYTES = 16 * 1024
_MAX_INTERMEDIATES_BYTES = 64 * 1024
_PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=hashes.SHA256.digest_size)


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed. Two different statements never have the same encoding.

    Args:
        purpose: distinguishes uses and their versions: ``vfl/public-keys/1``.
        federation: name of the federation.
        run: name of the run; empty if the statement belongs to none.
        attempt: number of the attempt at the run; 0 without a run.
        sender: the party that makes the statement.
        contents: content of the statement, in a fixed order.
    """

    purpose: str
    federation: str
    run: str
    attempt: int
    sender: str
    contents: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Canonical encoding: each part is preceded by its length as 8 bytes, big-endian; the attempt is in decimal."""
        names = (self.purpose, self.federation, self.run, str(self.attempt), self.sender)
        parts = (*(name.encode() for name in names), *self.contents)
        return b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    def fingerprint(self) -> str:
        """128 bits of its SHA-256, in groups that two operators can read to each other over the telephone."""
        digest = hashlib.sha256(self.encode()).hexdigest()[:32]
        return "-".join(digest[at : at + 4] for at in range(0, 32, 4))


def identity_statement(federation: str, party: str, nonce: bytes, caller: bytes) -> Statement:
    """What a party signs to prove to a caller who answers on their connection.

    Args:
        nonce: ``NONCE_BYTES`` random bytes that the caller has just drawn, so that no earlier answer fits.
        caller: SHA-256 of the certificate (DER) that the caller presented on this connection. Whoever has the nonce
            answered over a connection of its own gets a statement about its own certificate.
    """
    return Statement(_IDENTITY, federation, "", 0, party, (nonce, caller))


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the certificate to verify it with.

    Attributes:
        certificate: the signer's certificate in DER.
        intermediates: concatenated PEM certificates between that certificate and a CA; usually none.
        signature: covers the statement and the certificate.
    """

    certificate: bytes
    intermediates: bytes
    signature: bytes


def sign(statement: Statement, key: PrivateKey, chain: Sequence[x509.Certificate]) -> Signature:
    """Sign a statement: ECDSA with SHA-256, or RSA-PSS with SHA-256, depending on the key type.

    Args:
        chain: the certificate of ``key``, followed by intermediate ones.
    """
    certificate = chain[0].public_bytes(Encoding.DER)
    content = _signed_content(statement, certificate)
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content, _PSS, hashes.SHA256())
    else:
        signature = key.sign(content, ec.ECDSA(hashes.SHA256()))
    return Signature(certificate, b"".join(link.public_bytes(Encoding.PEM) for link in chain[1:]), signature)


def verify(
    statement: Statement, signed: Signature, federation: FederationConfig, trust: Trust, *, of_server: bool = False
) -> tuple[x509.Certificate, ...]:
    """Check that a statement was made by the party that it names as its sender.

    Args:
        of_server: whether the certificate must also be one that callers accept as the server's of that party.

    Returns:
        The certificate of the sender, followed by intermediate ones as it sent them.

    Raises:
        CertificateRefused: the certificate is malformed, for another member, role or federation, not from a CA in
            ``tls.ca``, not currently valid, or revoked; or its key did not sign this statement.
    """
    certificate, intermediates = _parse(signed, statement.sender)
    name = member_of(certificate, federation)
    if name != statement.sender:
        raise CertificateRefused(
            Refusal.WRONG_MEMBER,
            f"a statement by {statement.sender} is signed by {name}",
            remedy="before you continue, find out who relays messages between the parties",
        )
    if of_server:
        check_server(certificate)
    trust.check_chain(certificate, intermediates)
    try:
        _check_signature(certificate.public_key(), signed.signature, _signed_content(statement, signed.certificate))
    except InvalidSignature:
        raise _not_signed(statement) from None
    return (certificate, *intermediates)


def _not_signed(statement: Statement) -> CertificateRefused:
    remedy = "somebody between the parties changes or replays messages; compare the fingerprints in both logs"
    return CertificateRefused(
        Refusal.BAD_SIGNATURE,
        f"a message in the name of {statement.sender} is not what it signed for this "
        f"{'run' if statement.run else 'caller and connection'}",
        detail=f"purpose {statement.purpose}, run {statement.run or 'none'}, attempt {statement.attempt}",
        remedy=remedy if statement.run else f"somebody answers in the place of {statement.sender}",
    )


def _signed_content(statement: Statement, certificate: bytes) -> bytes:
    """The signed bytes. They include the certificate, so that the signature cannot be claimed for another key.

    They start with a zero byte, unlike anything that TLS or a certificate request signs with the same key.
    """
    return statement.encode() + hashlib.sha256(certificate).digest()


def _parse(signed: Signature, sender: str) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    try:
        if len(signed.certificate) > _MAX_CERTIFICATE_BYTES or len(signed.intermediates) > _MAX_INTERMEDIATES_BYTES:
            raise ValueError("too long")
        return _certificates(signed.certificate, signed.intermediates)
    except ValueError as error:
        raise CertificateRefused(
            Refusal.NO_CERTIFICATE,
            f"{sender} sent no readable certificate",
            detail=str(error),
            remedy="check that every party runs the same version of vfl, with tls.mode 'mutual'",
        ) from None


@functools.lru_cache(maxsize=64)
def _certificates(der: bytes, pem: bytes) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    """A certificate and intermediate ones. Remembered, since the same come with every proof of identity."""
    return certificate_from_der(der), tuple(certificates_from_pem(pem)) if pem else ()


def _check_signature(key: object, signature: bytes, content: bytes) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        key.verify(signature, content, _PSS, hashes.SHA256())
    elif isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    else:
        raise InvalidSignature
