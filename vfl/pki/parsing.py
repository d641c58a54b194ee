"""Parses certificates, requests and revocation lists from untrusted bytes.

``cryptography`` parses most fields on first use, and only then fails, with several types of errors. This module reads
every field that the package uses on loading, so a loaded object is safe to use.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

_FAILURES = (
    ValueError,  # malformed DER or PEM, and most malformed fields
    TypeError,  # fields of a type that is not allowed for their name
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


Extended = x509.Certificate | x509.CertificateRevocationList
ExtensionT = TypeVar("ExtensionT", bound=x509.ExtensionType)


@contextmanager
def _malformed_as_value_error() -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        raise ValueError(str(error) or type(error).__name__) from error


def extension_of(source: Extended, kind: type[ExtensionT]) -> ExtensionT | None:
    """The extension of a kind, which a certificate or revocation list has at most once; None if it has none."""
    try:
        return source.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def certificate_from_der(content: bytes) -> x509.Certificate:
    """A peer's certificate.

    Raises:
        ValueError: the certificate is malformed, or its key type is unknown.
    """
    with _malformed_as_value_error():
        certificate = x509.load_der_x509_certificate(content)
        _read_fields(certificate)
        certificate.public_key()
    return certificate


def certificates_from_pem(content: bytes) -> list[x509.Certificate]:
    """All certificates in a PEM text, at least one; other content is skipped.

    Raises:
        ValueError: there is none, or one is malformed or has an unknown key type.
    """
    with _malformed_as_value_error():
        certificates = authorities_from_pem(content)
        for certificate in certificates:
            certificate.public_key()
    return certificates


def authorities_from_pem(content: bytes) -> list[x509.Certificate]:
    """As ``certificates_from_pem``, but with keys of any type: a CA with an unknown key type cannot sign anything here.

    Raises:
        ValueError: there is none, or one is malformed.
    """
    with _malformed_as_value_error():
        certificates = x509.load_pem_x509_certificates(content)
        for certificate in certificates:
            _read_fields(certificate)
    return certificates


def request_from_pem(content: bytes) -> x509.CertificateSigningRequest:
    """A certificate request.

    Raises:
        ValueError: the request is malformed, or the type of its key or signature is unknown.
    """
    with _malformed_as_value_error():
        request = x509.load_pem_x509_csr(content)
        _ = request.subject, request.extensions, request.is_signature_valid
        request.public_key()
    return request


def list_from_pem(content: bytes) -> x509.CertificateRevocationList:
    """A revocation list.

    Raises:
        ValueError: the list or one of its entries is malformed.
    """
    with _malformed_as_value_error():
        revoked = x509.load_pem_x509_crl(content)
        _ = revoked.issuer, revoked.last_update_utc, revoked.next_update_utc, revoked.extensions
        for entry in revoked:
            _ = entry.serial_number, entry.revocation_date_utc, entry.extensions
    return revoked


def _read_fields(certificate: x509.Certificate) -> None:
    _ = certificate.subject, certificate.issuer, certificate.extensions
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
