"""Checks whether peers will accept a process's own certificate: better reported once at startup than by every peer."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509

from vfl.configuration.federation import FederationConfig
from vfl.errors import ConfigError
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
            check_server(certificate, federation.server_name(owner))
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
