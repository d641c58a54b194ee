"""What the certificate of a party must say besides its identity, so that callers accept it as a server's."""

from __future__ import annotations

from typing import TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from vfl.pki.profile import claims_of
from vfl.pki.trust import CertificateRefused, Refusal

_REMEDY = "get a certificate as requested by 'vfl keys request', and have the CA keep what it asks for"

ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


def check_server(certificate: x509.Certificate, server_name: str) -> None:
    """Check that a certificate is a server's of this name, and not a CA's. Does not check who issued it, or when.

    TLS compares names more loosely: it also accepts a wildcard, and a common name if there is no other.

    Raises:
        CertificateRefused: it is a CA's, not for servers, or does not contain exactly this DNS name.
    """
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateRefused(
            Refusal.IS_AUTHORITY,
            "the certificate is a CA's, which no party may use as its own",
            detail=certificate.subject.rfc4514_string(),
            remedy=_REMEDY,
        )
    usage = _extension(certificate, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise CertificateRefused(
            Refusal.WRONG_USAGE,
            "the certificate is not for servers",
            detail="its extended key usage lacks server authentication",
            remedy=_REMEDY,
        )
    names = claims_of(certificate).dns_names
    if server_name not in names:
        raise CertificateRefused(
            Refusal.WRONG_NAME,
            "the certificate lacks the server name by which callers know this party",
            detail=f"DNS name {server_name}; it has {', '.join(names) or 'none'}",
            remedy="have it issued with that DNS name, or set server_name in federation.toml to one that it has",
        )


def _extension(certificate: x509.Certificate, kind: type[ExtensionT]) -> ExtensionT | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
