"""Throw-away certificates for demos and tests on one machine. The CA's key is used once and never stored."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vfl.errors import ConfigError
from vfl.transport.config import TlsFiles, party_identity

VALID_FOR = timedelta(days=30)
_CLOCK_SKEW = timedelta(minutes=5)
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")


def make_federation_certificates(
    directory: Path, federation_name: str, names: Iterable[str], hosts: Iterable[str] = ()
) -> dict[str, TlsFiles]:
    """Make a CA and a certificate for each name, valid for 30 days on this machine and ``hosts``.

    Args:
        directory: gets ``ca.crt`` and a folder per name with ``party.crt`` and ``party.key`` (mode 0600).
        federation_name: as in federation.toml.
        names: parties and coordinator.
        hosts: further DNS names or IP addresses that peers dial.

    Returns:
        The files of each name.

    Raises:
        ConfigError: the directory already holds certificates; they are never overwritten.
    """
    if (directory / "ca.crt").exists():
        raise ConfigError(
            "there are certificates already", detail=str(directory), remedy="choose an empty directory, or remove them"
        )
    directory.mkdir(parents=True, exist_ok=True)
    authority = _make_authority(federation_name)
    (directory / "ca.crt").write_bytes(_pem(authority.certificate))
    alternatives = _host_names({*_LOCAL_HOSTS, *hosts})
    return {name: _write_party(directory, authority, federation_name, name, alternatives) for name in names}


@dataclass(frozen=True, slots=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def _make_authority(federation_name: str) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(f"{federation_name} CA")
    builder = (
        _builder(name, key.public_key(), issuer=name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
    )
    return _Authority(key, builder.sign(key, hashes.SHA256()))


def _write_party(
    directory: Path, authority: _Authority, federation_name: str, name: str, hosts: list[x509.GeneralName]
) -> TlsFiles:
    key = ec.generate_private_key(ec.SECP256R1())
    identity = x509.UniformResourceIdentifier(party_identity(federation_name, name))
    usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    certificate = (
        _builder(_common_name(name), key.public_key(), issuer=authority.certificate.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
        .add_extension(x509.SubjectAlternativeName([identity, *hosts]), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    folder = directory / name
    folder.mkdir(mode=0o700)
    files = TlsFiles(ca=directory / "ca.crt", certificate=folder / "party.crt", key=folder / "party.key")
    files.certificate.write_bytes(_pem(certificate))
    _write_secret(files.key, key)
    return files


def _builder(subject: x509.Name, key: ec.EllipticCurvePublicKey, *, issuer: x509.Name) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host_names(hosts: set[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in sorted(hosts):
        try:
            names.append(x509.IPAddress(ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    return names


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _write_secret(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
