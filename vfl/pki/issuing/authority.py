"""A federation's certificate authority: its key, the certificates it signs, and those it revokes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vfl.configuration.federation import SERVER_DOMAIN, FederationConfig
from vfl.errors import ConfigError
from vfl.pki.keyfiles import PrivateKey, is_usable, new_private_key
from vfl.pki.parsing import extension_of
from vfl.pki.profile import Claims, Owner, claims_of

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 365
LIST_DAYS = 90
"""After this, a revocation list is stale and causes a warning: the CA should have written a new one."""
_CLOCK_SKEW = timedelta(minutes=5)


@dataclass(frozen=True)
class Authority:
    """A CA that can sign: one for a whole federation, or one for each organization."""

    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, federation: str, days: int = AUTHORITY_DAYS) -> Authority:
        """A new CA with its own key, which signs end-entity certificates only."""
        key = new_private_key()
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, federation),
                x509.NameAttribute(NameOID.COMMON_NAME, f"{federation} CA"[:64]),
            ]
        )
        builder = (
            _builder(subject, key.public_key(), issuer=subject, days=days)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
        )
        return cls(key, builder.sign(key, hashes.SHA256()))

    def issue(self, owner: Owner, key: object, hosts: Iterable[str], days: float = CERTIFICATE_DAYS) -> bytes:
        """A certificate for a party or the coordinator, in PEM.

        Args:
            owner: whom the certificate is for; checked by the caller.
            key: the owner's public key.
            hosts: DNS names and IP addresses in addition to the server name.
            days: how long the certificate is valid.
        """
        usage = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.certificate.public_key())  # type: ignore[arg-type]
        certificate = (
            _builder(owner.subject(), key, issuer=self.certificate.subject, days=days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usage), critical=False)
            .add_extension(owner.alternative_names(hosts), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(Encoding.PEM)

    def revoke(
        self, certificates: Sequence[x509.Certificate], earlier: x509.CertificateRevocationList | None = None
    ) -> bytes:
        """A new revocation list in PEM: the entries of the earlier one plus these certificates.

        Raises:
            ConfigError: a certificate, or the earlier list, is from another CA.
        """
        entries = {entry.serial_number: entry for entry in earlier or ()}
        if earlier is not None and not earlier.is_signature_valid(self.certificate.public_key()):  # type: ignore[arg-type]
            raise ConfigError("the revocation list is from another CA", remedy="use the revocation list of this CA")
        now = datetime.now(UTC)
        for certificate in certificates:
            _check_issued(certificate, self.certificate)
            if certificate.serial_number not in entries:
                entries[certificate.serial_number] = (
                    x509.RevokedCertificateBuilder()
                    .serial_number(certificate.serial_number)
                    .revocation_date(now)
                    .build()
                )
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - _CLOCK_SKEW)
            .next_update(now + timedelta(days=LIST_DAYS))
            .add_extension(x509.CRLNumber(_number_of(earlier) + 1), critical=False)
        )
        for entry in entries.values():
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _check_issued(certificate: x509.Certificate, authority: x509.Certificate) -> None:
    try:
        certificate.verify_directly_issued_by(authority)
    except Exception as error:  # noqa: BLE001  # cryptography raises several types, which all mean this
        raise ConfigError(
            "the certificate was not issued by this CA",
            detail=f"{certificate.subject.rfc4514_string()}: {error or type(error).__name__}",
            remedy="have it revoked by the CA that issued it",
        ) from None


def _number_of(earlier: x509.CertificateRevocationList | None) -> int:
    number = None if earlier is None else extension_of(earlier, x509.CRLNumber)
    return 0 if number is None else number.crl_number


def make_request(key: PrivateKey, owner: Owner, hosts: Iterable[str]) -> x509.CertificateSigningRequest:
    """A certificate request (PKCS#10) with everything that the certificate must contain. The key stays here."""
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(owner.subject())
        .add_extension(owner.alternative_names(hosts), critical=False)
        .sign(key, hashes.SHA256())
    )


def check_request(request: x509.CertificateSigningRequest, federation: FederationConfig) -> tuple[Owner, list[str]]:
    """The member of the federation that a request is for, and the hosts that it asks for.

    Raises:
        ConfigError: the request is for another federation, no member of this one, or a role other than in
            federation.toml; it asks for another member's server name; or its signature or its key is bad.
    """
    if not request.is_signature_valid or not is_usable(request.public_key()):
        raise _request_refused("its signature is invalid, or its key type is not supported")
    claims = claims_of(request)
    owner = _owner_of(claims, federation)
    own_names = {federation.server_name(owner.name), *_derived(owner)}
    others = {federation.server_name(member) for member in federation.members} - own_names
    for name in (asked.lower() for asked in claims.dns_names):
        if name not in own_names and (name in others or name.endswith(f".{SERVER_DOMAIN}")):
            raise _request_refused("it asks for the server name of another party", name)
    hosts = [name for name in claims.dns_names if name not in _derived(owner)]
    return owner, [*hosts, *claims.addresses]


def _owner_of(claims: Claims, federation: FederationConfig) -> Owner:
    named = {federation.identity(name): Owner(federation.name, name, role) for name, role in federation.members.items()}
    owner = named.get(claims.identities[0]) if len(claims.identities) == 1 else None
    if owner is None:
        raise _request_refused("its identity belongs to no member in federation.toml", ", ".join(claims.identities))
    if claims.roles != (str(owner.role),):
        raise _request_refused(f"its role is not '{owner.role}', the one in federation.toml", ", ".join(claims.roles))
    return owner


def _derived(owner: Owner) -> list[str]:
    return list(owner.alternative_names(()).get_values_for_type(x509.DNSName))


def _request_refused(why: str, detail: str = "") -> ConfigError:
    return ConfigError(
        f"the certificate request is refused: {why}",
        detail=detail,
        remedy="ask the party to create it again with 'vfl keys request' and the same federation.toml",
    )


def _builder(subject: x509.Name, key: object, *, issuer: x509.Name, days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]  # of a type that is_usable allows
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now, now + timedelta(days=days)) - _CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
    )


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
