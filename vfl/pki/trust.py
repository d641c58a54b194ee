"""Whom this process trusts: the CAs in ``tls.ca`` and their revocation lists, and what a certificate must say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from vfl.configuration.federation import FederationConfig, identity_parts, party_server_name
from vfl.errors import AccessDenied, ConfigError
from vfl.ids import Role
from vfl.pki.keyfiles import is_usable
from vfl.pki.parsing import authorities_from_pem, extension_of
from vfl.pki.profile import claims_of, fingerprint
from vfl.pki.revocation import RevocationList, authority_key, parse_lists

_KNOWN_PATHS = 64
"""Paths remembered, because every call is checked: a few for each member."""


class Refusal(StrEnum):
    """Why a certificate is not accepted; logged as ``reason``."""

    NO_CERTIFICATE = "no-certificate"
    OLD_TLS = "old-tls"
    IDENTITY = "identity"
    OTHER_FEDERATION = "other-federation"
    UNKNOWN_MEMBER = "unknown-member"
    WRONG_ROLE = "wrong-role"
    WRONG_MEMBER = "wrong-member"
    UNUSABLE_KEY = "unusable-key"
    IS_AUTHORITY = "is-authority"
    WRONG_USAGE = "wrong-usage"
    WRONG_NAME = "wrong-name"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNTRUSTED = "untrusted"
    BAD_SIGNATURE = "bad-signature"


class CertificateRefused(AccessDenied):
    """A certificate does not prove what it must prove. ``reason`` is a short code for why."""

    def __init__(self, reason: Refusal, summary: str, *, detail: str = "", remedy: str = "") -> None:
        super().__init__(summary, detail=detail, remedy=remedy)
        self.reason = reason


class Trust:
    """The content of ``tls.ca`` and ``tls.revoked``.

    Attributes:
        authorities: the CAs; certificates issued by any of them are trusted.
        lists: their revocation lists, one for each CA at most.
    """

    def __init__(self, authorities: Sequence[x509.Certificate], lists: Sequence[RevocationList] = ()) -> None:
        self.authorities = tuple(authorities)
        self.lists = tuple(lists)
        self._store = Store(list(self.authorities))
        self._paths: dict[tuple[x509.Certificate, tuple[x509.Certificate, ...]], tuple[x509.Certificate, ...]] = {}
        self._revoked = {
            (each.content.issuer.public_bytes(), entry.serial_number) for each in lists for entry in each.content
        }

    def check_now(self, certificate: x509.Certificate) -> None:
        """Check what can change during a connection: validity and revocation.

        Raises:
            CertificateRefused: the certificate is not yet valid, has expired, or was revoked.
        """
        now = current_time()
        if now < certificate.not_valid_before_utc:
            raise CertificateRefused(
                Refusal.NOT_YET_VALID,
                "the certificate is not valid yet",
                detail=f"valid from {certificate.not_valid_before_utc}",
                remedy="correct the clock of the machine that issued the certificate, or of this one",
            )
        if now > certificate.not_valid_after_utc:
            raise CertificateRefused(
                Refusal.EXPIRED,
                "the certificate has expired",
                detail=f"valid until {certificate.not_valid_after_utc}",
                remedy="have a new certificate issued for the same key ('vfl keys sign'), or correct the clock",
            )
        if (certificate.issuer.public_bytes(), certificate.serial_number) in self._revoked:
            raise CertificateRefused(
                Refusal.REVOKED,
                "the certificate has been revoked by its CA",
                detail=f"serial number {certificate.serial_number:x}",
                remedy="create a new key and have a certificate issued for it ('vfl keys request', 'vfl keys sign')",
            )

    def check_chain(self, certificate: x509.Certificate, intermediates: Sequence[x509.Certificate] = ()) -> None:
        """Check that one of the CAs issued a certificate, and apply ``check_now`` to every link from it up to that CA.

        Args:
            certificate: the certificate of a member.
            intermediates: what its owner presents besides; those that are not on the path to a CA do not count.

        Raises:
            CertificateRefused: a check fails.
        """
        self.check_now(certificate)
        path = self.path(certificate, tuple(intermediates))
        for authority in path:
            self._check_authority(authority)
        if any(map(_is_limited, path)):
            _check_coordinators_name(certificate)

    def path(
        self, certificate: x509.Certificate, intermediates: tuple[x509.Certificate, ...]
    ) -> tuple[x509.Certificate, ...]:
        """The CAs above a certificate, as its signatures show. Only what ``check_now`` checks can change later.

        Raises:
            CertificateRefused: none of the CAs in ``tls.ca`` issued it.
        """
        known = self._paths.get((certificate, intermediates))
        if known is not None:
            return known
        verifier = PolicyBuilder().store(self._store).time(current_time()).build_client_verifier()
        try:
            _, *path = verifier.verify(certificate, list(intermediates)).chain
        except VerificationError as error:
            for link in intermediates:
                self._check_authority(link)
            raise CertificateRefused(
                Refusal.UNTRUSTED,
                "the certificate was not issued by a CA in tls.ca",
                detail=f"{certificate.subject.rfc4514_string()} {fingerprint(certificate)}: {error}",
                remedy="give every member the same tls.ca, with every party's CA, and all intermediate certificates",
            ) from None
        if len(self._paths) >= _KNOWN_PATHS:
            self._paths.clear()
        self._paths[certificate, intermediates] = tuple(path)
        return tuple(path)

    def _check_authority(self, authority: x509.Certificate) -> None:
        try:
            self.check_now(authority)
        except CertificateRefused as error:
            raise CertificateRefused(
                error.reason,
                f"it was issued by a CA that is no longer accepted: {error.summary}",
                detail=f"{authority.subject.rfc4514_string()}, {error.detail}",
                remedy="have a certificate issued by another CA of the federation",
            ) from None

    def list_of(self, authority: x509.Certificate) -> RevocationList | None:
        """The list in force of what a CA has revoked; None if there is none, and then nothing that it issued is."""
        wanted = authority_key(authority)
        return next((each for each in self.lists if authority_key(each.authority) == wanted), None)

    def stale_lists(self) -> list[RevocationList]:
        """Revocation lists that should have been replaced by now."""
        return [each for each in self.lists if is_stale(each)]


def is_stale(revoked: RevocationList) -> bool:
    """Whether a revocation list should have been replaced by now."""
    due = revoked.content.next_update_utc
    return due is not None and due < current_time()


def current_time() -> datetime:
    """Now, in UTC."""
    return datetime.now(UTC)


def member_of(certificate: x509.Certificate, federation: FederationConfig) -> str:
    """The party or the coordinator that a certificate is for. Does not check who issued it, or when.

    Raises:
        CertificateRefused: the certificate does not have exactly one identity, is for another federation, for no member
            of this one, or for another role, or its key type is not supported.
    """
    claims = claims_of(certificate)
    shown = f"{certificate.subject.rfc4514_string()}, {', '.join(claims.identities) or 'no URI'}"
    if len(claims.identities) != 1:
        raise _refused(Refusal.IDENTITY, f"the certificate carries {len(claims.identities)} identities, not one", shown)
    (identity,) = claims.identities
    if not identity.startswith(federation.identity("")):
        raise _refused(Refusal.OTHER_FEDERATION, "the certificate is for another federation", shown)
    name = identity.removeprefix(federation.identity(""))
    if name not in federation.members:
        raise _refused(Refusal.UNKNOWN_MEMBER, "the certificate is for no member of this federation", shown)
    role = federation.members[name]
    if name in federation.names and federation.server_name(name) not in claims.dns_names:
        # Otherwise a CA whose DNS names are limited to one party could issue a certificate for another one's identity.
        raise CertificateRefused(
            Refusal.WRONG_NAME,
            "the certificate lacks the server name of its party",
            detail=f"{shown}; DNS name {federation.server_name(name)}",
            remedy="have it issued with that DNS name, or set server_name in federation.toml to one that it has",
        )
    if role not in claims.roles:
        stated = ", ".join(claims.roles) or "none"
        raise _refused(
            Refusal.WRONG_ROLE, f"the certificate is not for the role '{role}'", f"{shown}; roles (OU): {stated}"
        )
    if not is_usable(certificate.public_key()):
        raise _refused(Refusal.UNUSABLE_KEY, "the certificate's key type is not supported", shown)
    return name


def _is_limited(authority: x509.Certificate) -> bool:
    return extension_of(authority, x509.NameConstraints) is not None


def _check_coordinators_name(certificate: x509.Certificate) -> None:
    """A coordinator's certificate needs no DNS name, unless it comes from a CA that is limited to certain ones.

    Such a limit would not hold for a certificate without any.
    """
    claims = claims_of(certificate)
    needed = {party_server_name(*parts) for parts in map(identity_parts, claims.identities) if parts}
    if Role.COORDINATOR in claims.roles and not needed <= set(claims.dns_names):
        raise _refused(
            Refusal.IDENTITY,
            "the coordinator's certificate comes from a CA with name constraints and lacks its server name",
            ", ".join((*claims.identities, *claims.dns_names)),
        )


def _refused(reason: Refusal, summary: str, detail: str) -> CertificateRefused:
    remedy = "get a certificate as requested by 'vfl keys request': URI identity in the federation, role as OU"
    return CertificateRefused(reason, summary, detail=detail, remedy=remedy)


def parse_trust(ca: bytes, revoked: bytes | None, where: Path) -> Trust:
    """The CAs and revocation lists in two PEM files.

    Raises:
        ConfigError: a file contains none or a malformed one, a certificate is not a CA's, or a list is refused
            (``parse_lists``).
    """
    try:
        authorities = authorities_from_pem(ca)
    except ValueError as error:
        raise ConfigError(
            "the TLS file 'tls.ca' is not a PEM certificate",
            detail=f"{where}: {error}",
            remedy="correct tls.ca",
        ) from None
    for authority in authorities:
        if not _may_sign(authority):
            raise ConfigError(
                "the TLS file 'tls.ca' contains a certificate that is not a CA certificate",
                detail=f"{where}: {authority.subject.rfc4514_string()}",
                remedy="keep only CA certificates in tls.ca; a party whose certificate is there can pose as anybody",
            )
    lists = [] if revoked is None else parse_lists(revoked, authorities)
    return Trust(authorities, lists)


def _may_sign(certificate: x509.Certificate) -> bool:
    constraints = extension_of(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca
