"""The content of a federation's certificates: one URI identity, a role, hostnames, and a server name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from vfl.configuration.federation import party_identity, party_server_name
from vfl.errors import ConfigError
from vfl.ids import Role

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_PATTERN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_MAX_HOST = 253


@dataclass(frozen=True, slots=True)
class Claims:
    """What a certificate or a request says about its owner, unchecked.

    Attributes:
        identities: URIs; exactly one is allowed.
        roles: organizational units (OU), one of which must be the role.
        dns_names: hostnames and the server name.
        addresses: IP addresses.
    """

    identities: tuple[str, ...]
    roles: tuple[str, ...]
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Whom a certificate is for: a party or the coordinator of a federation."""

    federation: str
    name: str
    role: Role

    @property
    def identity(self) -> str:
        """The URI of the certificate."""
        return party_identity(self.federation, self.name)

    def subject(self) -> x509.Name:
        """The subject: O is the federation, OU the role, CN the name."""
        return x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, self.federation),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, str(self.role)),
                x509.NameAttribute(NameOID.COMMON_NAME, self.name),
            ]
        )

    def alternative_names(self, hosts: Iterable[str]) -> x509.SubjectAlternativeName:
        """The identity, the server name derived from it, and the hosts.

        Raises:
            ConfigError: a host is neither a DNS name nor an IP address.
        """
        own = (x509.UniformResourceIdentifier(self.identity), x509.DNSName(party_server_name(*self._names)))
        return x509.SubjectAlternativeName([*own, *(_host_name(host) for host in sorted(set(hosts)))])

    @property
    def _names(self) -> tuple[str, str]:
        return self.federation, self.name


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        pass
    if not _HOST_PATTERN.fullmatch(host) or len(host) > _MAX_HOST:
        raise ConfigError(
            "a host of a certificate is neither a DNS name nor an IP address",
            detail=repr(host),
            remedy="write each host in full, without wildcards",
        )
    return x509.DNSName(host.lower())


def claims_of(source: x509.Certificate | x509.CertificateSigningRequest) -> Claims:
    """The claims that a certificate or a request makes."""
    units = source.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    try:
        names = source.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        names = x509.SubjectAlternativeName([])
    return Claims(
        identities=tuple(names.get_values_for_type(x509.UniformResourceIdentifier)),
        roles=tuple(str(unit.value) for unit in units),
        dns_names=tuple(names.get_values_for_type(x509.DNSName)),
        addresses=tuple(str(address) for address in names.get_values_for_type(x509.IPAddress)),
    )


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, formatted like ``openssl x509 -fingerprint -sha256``."""
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def certificate_digest(certificate: x509.Certificate) -> bytes:
    """SHA-256 of a certificate in DER, as signed statements name it."""
    return certificate.fingerprint(hashes.SHA256())


def key_fingerprint(source: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo): the same in a request and in the certificate issued for it."""
    content = source.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize().hex(":").upper()
