"""Revocation lists (CRLs): which of them count, and that none replaces a newer one.

A list that says less than it seems to would re-admit certificates: one that lists only changes (a delta), only CAs, or
only some of a CA's certificates, and one that is older than a list already seen. All of these are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from vfl.errors import ConfigError
from vfl.pki.parsing import extension_of, list_from_pem

_PATTERN = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
_AGAIN = "get the revocation list from the CA again"
_FULL = "have the CA issue a full list of everything that it has revoked"
_LIMITED = {
    ExtensionOID.DELTA_CRL_INDICATOR: "lists only changes since another list (deltaCRLIndicator)",
    ExtensionOID.ISSUING_DISTRIBUTION_POINT: "covers only a part of its CA's certificates (issuingDistributionPoint)",
}
"""Extensions that make a list say less, whether they are marked critical or not."""
_KNOWN = {ExtensionOID.CRL_NUMBER, ExtensionOID.AUTHORITY_KEY_IDENTIFIER, ExtensionOID.ISSUER_ALTERNATIVE_NAME}
_KNOWN_OF_ENTRIES = {CRLEntryExtensionOID.CRL_REASON, CRLEntryExtensionOID.INVALIDITY_DATE}


@dataclass(frozen=True, slots=True)
class Mark:
    """What is remembered of the newest list of a CA.

    Attributes:
        number: its CRL number.
        digest: SHA-256 of the list, in hexadecimal digits.
        issuer: name of the CA, for people.
    """

    number: int
    digest: str
    issuer: str


Marks = Mapping[str, Mark]
"""By CA, see ``authority_key``."""


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A full list of one CA in ``tls.ca``, with a number.

    Attributes:
        authority: the CA that signed it.
        number: its CRL number.
    """

    authority: x509.Certificate
    content: x509.CertificateRevocationList
    number: int

    @property
    def mark(self) -> Mark:
        """What to remember of it."""
        issuer = self.content.issuer.rfc4514_string()
        return Mark(self.number, self.content.fingerprint(hashes.SHA256()).hex(), issuer)

    def described(self) -> str:
        """Number, dates and number of entries, for people."""
        due = self.content.next_update_utc
        until = f", next update {_date(due)}" if due else ", no next update"
        return f"number {self.number} of {_date(self.content.last_update_utc)}{until}, {len(self.content)} entries"


def _date(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"


def authority_key(authority: x509.Certificate) -> str:
    """What a CA's lists are remembered under: its name and key, so that a renewed certificate of it stays the same."""
    try:
        key = authority.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        key = authority.fingerprint(hashes.SHA256())  # of an unknown type, so it signs no list here
    return hashlib.sha256(authority.subject.public_bytes() + key).hexdigest()


def parse_lists(content: bytes, authorities: Sequence[x509.Certificate]) -> list[RevocationList]:
    """The newest list of each CA in a PEM file.

    Raises:
        ConfigError: there is none; or one is malformed, not signed by one of the CAs, not a full list, has no number or
            an unknown critical extension; or two lists of a CA have the same number.
    """
    found = _PATTERN.findall(content)
    if not found:
        raise ConfigError(
            "the TLS file 'tls.revoked' contains no PEM revocation list",
            remedy=f"{_AGAIN} ('vfl keys revoke' writes it), in PEM",
        )
    newest: dict[str, RevocationList] = {}
    for each in (_parse(pem, authorities) for pem in found):
        key = authority_key(each.authority)
        other = newest.get(key, each)
        if other.number == each.number and other.mark != each.mark:
            raise _refused("two different revocation lists of a CA have the same number", each.content, _AGAIN)
        newest[key] = max(other, each, key=lambda one: one.number)
    return list(newest.values())


def _parse(pem: bytes, authorities: Sequence[x509.Certificate]) -> RevocationList:
    try:
        content = list_from_pem(pem)
        signer = next((ca for ca in authorities if content.issuer == ca.subject and _signed(content, ca)), None)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(
            "the TLS file 'tls.revoked' contains a malformed revocation list", detail=str(error), remedy=_AGAIN
        ) from None
    if signer is None:
        raise _refused(
            "a revocation list is not signed by a CA in tls.ca",
            content,
            "correct tls.revoked, or add the CA that signed the list to tls.ca",
        )
    return RevocationList(signer, content, check_full(content))


def check_full(content: x509.CertificateRevocationList) -> int:
    """Check that a list says everything that its CA has revoked; return its CRL number.

    Raises:
        ConfigError: it is limited in some way, has an unknown critical extension, or has no number.
    """
    for extension in content.extensions:
        if extension.oid in _LIMITED:
            raise _refused(f"a revocation list {_LIMITED[extension.oid]}", content, _FULL)
        if extension.critical and extension.oid not in _KNOWN:
            raise _unknown(content, extension.oid.dotted_string)
    for entry in content:
        for extension in entry.extensions:
            if extension.critical and extension.oid not in _KNOWN_OF_ENTRIES:
                raise _unknown(content, f"{extension.oid.dotted_string} of entry {entry.serial_number:x}")
    number = extension_of(content, x509.CRLNumber)
    if number is None:
        remedy = "have the CA number its lists (RFC 5280, section 5.2.3): without a number an older list looks current"
        raise _refused("a revocation list has no CRL number", content, remedy)
    return number.crl_number


def _signed(content: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    try:
        return content.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # other types raise TypeError
    except TypeError:
        return False


def check_not_older(
    lists: Iterable[RevocationList], marks: Marks, authorities: Iterable[x509.Certificate], remembered: str = ""
) -> None:
    """Check that no list is older than one that was in force before, and that none is missing now.

    Args:
        lists: the new ones.
        marks: of the earlier ones.
        authorities: the CAs that are trusted now.
        remembered: the file that the marks are from, for the remedy; empty if from this process.

    Raises:
        ConfigError: a CA's list has a lower number than before, the same one with other content, or is missing. CAs
            that are no longer trusted do not count.
    """
    present = {authority_key(each.authority): each for each in lists}
    for key in {authority_key(authority) for authority in authorities if authority_key(authority) in marks}:
        mark, current = marks[key], present.get(key)
        if current is None:
            raise ConfigError(
                "the revocation list of a CA is missing, and there was one before",
                detail=f"issuer {mark.issuer}, number {mark.number}",
                remedy=f"put the latest list of every CA into tls.revoked{_unless(remembered)}",
            )
        if current.number < mark.number:
            what = f"number {current.number}, after number {mark.number}"
            raise _refused(
                "a revocation list is older than the one before", current.content, _AGAIN + _unless(remembered), what
            )
        if current.number == mark.number and current.mark.digest != mark.digest:
            raise _refused(
                "a revocation list has other content than the one before, but the same number",
                current.content,
                f"have the CA issue a list with a new number{_unless(remembered)}",
                f"number {current.number}",
            )


def _unless(remembered: str) -> str:
    if not remembered:
        return ""
    return f"; only if the CA confirms that it began to number its lists anew, remove {remembered} and start again"


def newest(marks: Marks, lists: Iterable[RevocationList]) -> dict[str, Mark]:
    """Marks, and those of these lists where they are newer."""
    merged = dict(marks)
    for each in lists:
        key = authority_key(each.authority)
        if key not in merged or merged[key].number < each.number:
            merged[key] = each.mark
    return merged


def _unknown(content: x509.CertificateRevocationList, what: str) -> ConfigError:
    remedy = f"{_FULL}, without this extension, which may change what the list means"
    return _refused("a revocation list has an unknown critical extension", content, remedy, what)


def _refused(summary: str, content: x509.CertificateRevocationList, remedy: str, what: str = "") -> ConfigError:
    issuer = f"issuer {content.issuer.rfc4514_string()}"
    return ConfigError(summary, detail=f"{issuer}, {what}" if what else issuer, remedy=remedy)
