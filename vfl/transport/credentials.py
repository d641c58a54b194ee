"""gRPC credentials from a party's PEM files, checked first: gRPC reports a bad file only as a lost connection."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from vfl.errors import ConfigError
from vfl.transport.config import TlsFiles


class _Pem(NamedTuple):
    ca: bytes
    certificate: bytes
    key: bytes


def server_credentials(files: TlsFiles, identity: str | None = None) -> grpc.ServerCredentials:
    """Credentials of a server that admits only callers with a certificate of the federation's CA.

    Args:
        files: the party's PEM files.
        identity: the URI the certificate must carry (``FederationConfig.identity``); None: any.

    Raises:
        ConfigError: a file is missing, malformed or expired, or certificate, key and identity do not belong together.
    """
    pem = _load(files, identity)
    return grpc.ssl_server_credentials([(pem.key, pem.certificate)], root_certificates=pem.ca, require_client_auth=True)


def client_credentials(files: TlsFiles, identity: str | None = None) -> grpc.ChannelCredentials:
    """Credentials of a caller that shows its certificate and admits only servers with one of the federation's CA.

    Args:
        files: the party's PEM files.
        identity: the URI the certificate must carry (``FederationConfig.identity``); None: any.

    Raises:
        ConfigError: as :func:`server_credentials`.
    """
    pem = _load(files, identity)
    return grpc.ssl_channel_credentials(pem.ca, pem.key, pem.certificate)


def _load(files: TlsFiles, identity: str | None) -> _Pem:
    pem = _Pem(_read(files.ca, "ca"), _read(files.certificate, "certificate"), _read(files.key, "key"))
    certificate = _parse_certificate(pem.certificate, files.certificate, "certificate")
    _parse_certificate(pem.ca, files.ca, "ca")
    if _public_key_of(pem.key, files.key) != certificate.public_key().public_bytes(
        Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    ):
        raise ConfigError(
            "the private key does not belong to the certificate",
            detail=f"{files.key} and {files.certificate}",
            remedy="correct tls.key or tls.certificate in party.toml",
        )
    if identity is not None and identity not in _identities(certificate):
        raise ConfigError(
            "the certificate is not for this party of this federation",
            detail=f"{files.certificate} does not carry {identity}",
            remedy="correct tls.certificate in party.toml, or have a certificate made for this party",
        )
    return pem


def _read(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the TLS file 'tls.{key}' cannot be read",
            detail=str(error),
            remedy=f"correct tls.{key} in party.toml, or the file's permissions",
        ) from None


def _parse_certificate(content: bytes, path: Path, key: str) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError as error:
        raise ConfigError(
            f"the TLS file 'tls.{key}' is not a PEM certificate",
            detail=f"{path}: {error}",
            remedy=f"correct tls.{key} in party.toml",
        ) from None
    if not certificate.not_valid_before_utc <= datetime.now(UTC) <= certificate.not_valid_after_utc:
        raise ConfigError(
            f"the certificate 'tls.{key}' has expired or is not valid yet",
            detail=f"{path}: {certificate.not_valid_before_utc} to {certificate.not_valid_after_utc}",
            remedy="have new certificates made, or correct the clock",
        )
    return certificate


def _public_key_of(content: bytes, path: Path) -> bytes:
    try:
        key = serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "the TLS file 'tls.key' is not an unencrypted PEM private key",
            detail=f"{path}: {error}",
            remedy="correct tls.key in party.toml",
        ) from None
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _identities(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return names.get_values_for_type(x509.UniformResourceIdentifier)
