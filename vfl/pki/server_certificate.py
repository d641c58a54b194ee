"""What the certificate of a party must say besides its identity, so that callers accept it as a server's."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from vfl.pki.parsing import extension_of
from vfl.pki.trust import CertificateRefused, Refusal

_REMEDY = "get a certificate as requested by 'vfl keys request', and have the CA keep what it asks for"


def check_server(certificate: x509.Certificate) -> None:
    """Check that a member's certificate is a server's, and not a CA's. Does not check who issued it, or when.

    Its server name is checked by ``member_of``, exactly; TLS also accepts a wildcard, and a common name if there is no
    other.

    Raises:
        CertificateRefused: it is a CA's, or not for servers.
    """
    constraints = extension_of(certificate, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        raise CertificateRefused(
            Refusal.IS_AUTHORITY,
            "the certificate is a CA's, which no party may use as its own",
            detail=certificate.subject.rfc4514_string(),
            remedy=_REMEDY,
        )
    usage = extension_of(certificate, x509.ExtendedKeyUsage)
    if usage is None or ExtendedKeyUsageOID.SERVER_AUTH not in usage:
        raise CertificateRefused(
            Refusal.WRONG_USAGE,
            "the certificate is not for servers",
            detail="its extended key usage lacks server authentication",
            remedy=_REMEDY,
        )
