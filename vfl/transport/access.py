"""Who may call what: decided on every call by the caller's certificate.

Identity and role are those of the certificate; validity and revocation are also those of every CA above it.
"""

from __future__ import annotations

import functools
from typing import Any

from cryptography import x509

from vfl.configuration.federation import FederationConfig
from vfl.errors import AccessDenied, ProtocolError
from vfl.ids import Address
from vfl.messages import MESSAGE_TYPES
from vfl.pki.credentials import Credentials
from vfl.pki.parsing import certificates_from_pem
from vfl.pki.profile import fingerprint
from vfl.pki.trust import CertificateRefused, Refusal, member_of
from vfl.runtime.log_limits import LimitedLog
from vfl.runtime.logs import get_logger
from vfl.transport.wire.failures import caller_of

_log = get_logger(__name__)
_limited = LimitedLog(_log, "more callers refused")

_TLS_VERSION = "TLSv1.3"
_REMEDY = "use that party's certificate for this federation"
_SHOWN = 80
"""Maximum number of characters of an external text in a log."""


class Access:
    """The rules of one server.

    Args:
        federation: the members.
        credentials: of this server; None only with ``insecure-loopback``, where callers cannot be identified and
            everybody is admitted.
    """

    def __init__(self, federation: FederationConfig, credentials: Credentials | None) -> None:
        self._federation = federation
        self._credentials = credentials

    def require_caller(self, context: Any, what: str) -> str | None:
        """Name of the caller, a party or the coordinator; None without TLS.

        Raises:
            AccessDenied: the caller's certificate is not, or is no longer, that of a member of the federation.
        """
        if self._credentials is None:
            return None
        certificate = None
        try:
            certificate = _certificate_of(context)
            name = member_of(certificate, self._federation)
            self._credentials.trust.check_chain(certificate, _intermediates_of(context))
        except CertificateRefused as error:
            raise _denied(context, what, error, certificate) from None
        return name

    def certificate_of_caller(self, context: Any, what: str) -> x509.Certificate:
        """The certificate that the caller presented on this connection.

        Raises:
            AccessDenied: as ``require_caller``; or there is no TLS.
        """
        if self.require_caller(context, what) is None:
            raise AccessDenied(f"without TLS there is no {what}")
        return _certificate_of(context)

    def require(self, context: Any, name: str, what: str) -> None:
        """Raise AccessDenied unless the caller is ``name``. Without TLS nobody can tell, and everybody is admitted."""
        caller = self.require_caller(context, what)
        if caller is not None and caller != name:
            error = CertificateRefused(Refusal.WRONG_MEMBER, f"it belongs to {caller}", remedy=_REMEDY)
            raise _denied(context, what, error, _certificate_of(context))

    def require_member(self, sender: str) -> None:
        """Raise AccessDenied unless ``sender`` is a party of the federation."""
        if sender not in self._federation.names:
            raise AccessDenied("the sender is not a party of this federation", detail=repr(sender[:_SHOWN]))

    def require_route(self, address: Address, receiver: str) -> None:
        """Raise ProtocolError for a kind of message that the sender's role never sends to the receiver's role."""
        roles = (self._federation.members[address.sender], self._federation.members[receiver])
        if roles not in MESSAGE_TYPES[address.kind].routes:
            raise ProtocolError(
                f"{address.sender} ({roles[0]}) sent '{address.kind}' to {receiver} ({roles[1]}), "
                "which never receives it",
                remedy=f"check that {address.sender} runs the same version of vfl, unchanged",
            )


def _denied(
    context: Any, what: str, error: CertificateRefused, certificate: x509.Certificate | None
) -> CertificateRefused:
    _limited(
        "warning",
        "caller refused",
        caller_of(context),
        reason=str(error.reason),
        call=what,
        caller=context.peer(),
        certificate=fingerprint(certificate) if certificate else "none",
        subject=certificate.subject.rfc4514_string()[:_SHOWN] if certificate else "none",
    )
    return CertificateRefused(
        error.reason,
        f"the caller's certificate does not allow {what}: {error.summary}",
        detail=error.detail,
        remedy=error.remedy,
    )


def _certificate_of(context: Any) -> x509.Certificate:
    properties: dict[str, list[bytes]] = context.auth_context()
    version = b"".join(properties.get("ssl_tls_version", [])).decode()
    if version != _TLS_VERSION:
        raise CertificateRefused(Refusal.OLD_TLS, f"the connection does not use {_TLS_VERSION}", detail=version)
    pem = properties.get("x509_pem_cert", [])
    if len(pem) != 1:
        raise CertificateRefused(Refusal.NO_CERTIFICATE, "there is none")
    return _parse(pem[0])[0]


def _intermediates_of(context: Any) -> tuple[x509.Certificate, ...]:
    """What the caller presented besides its own certificate: gRPC's name for it notwithstanding, the chain without it.

    A caller that leaves out a link of its own chain is refused, by TLS and again here.
    """
    properties: dict[str, list[bytes]] = context.auth_context()
    pem = b"".join(properties.get("x509_pem_cert_chain", []))
    return _parse(pem) if pem else ()


@functools.lru_cache(maxsize=64)
def _parse(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Parse certificates of a connection that TLS has verified, so that only members of the CAs fill the cache."""
    try:
        return tuple(certificates_from_pem(pem))
    except ValueError as error:
        raise CertificateRefused(Refusal.NO_CERTIFICATE, "it cannot be read", detail=str(error)) from None
