"""A process's own certificate, and whether peers will accept it: better reported at startup than by every peer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from vfl.configuration.federation import FederationConfig
from vfl.errors import ConfigError
from vfl.pki.parsing import certificates_from_pem
from vfl.pki.server_certificate import check_server
from vfl.pki.trust import CertificateRefused, Trust, member_of


def check_own_certificate(
    chain: Sequence[x509.Certificate], federation: FederationConfig, trust: Trust, name: str
) -> None:
    """Check that every peer will accept a certificate as that of ``name``.

    Raises:
        ConfigError: peers would not accept it; the error says why.
    """
    certificate, *intermediates = chain
    remedy = "correct tls.certificate, or have a certificate issued to this party ('vfl keys')"
    try:
        owner = member_of(certificate, federation)
        if owner in federation.names:
            check_server(certificate)
        trust.check_chain(certificate, intermediates)
    except CertificateRefused as error:
        raise ConfigError(
            f"no peer would accept this process's certificate: {error.summary}",
            detail=error.detail,
            remedy=error.remedy or remedy,
        ) from None
    if owner != name:
        raise ConfigError(
            "the certificate is not for this party of this federation",
            detail=f"it is for {federation.identity(owner)}, not {federation.identity(name)}",
            remedy=remedy,
        )


def read_tls_file(path: Path, key: str) -> bytes:
    """The content of the file that ``tls.KEY`` names.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the TLS file 'tls.{key}' cannot be read",
            detail=str(error),
            remedy=f"correct tls.{key}, or the file's permissions",
        ) from None


def parse_chain(content: bytes, path: Path) -> tuple[x509.Certificate, ...]:
    """A process's own certificate and the intermediate ones after it.

    Raises:
        ConfigError: it is not a PEM certificate.
    """
    try:
        return tuple(certificates_from_pem(content))
    except ValueError as error:
        raise ConfigError(
            "the TLS file 'tls.certificate' is not a PEM certificate",
            detail=f"{path}: {error}",
            remedy="correct tls.certificate",
        ) from None
