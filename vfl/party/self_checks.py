"""A member's checks of its own files, certificate, table and port. For its own operator; never sent to others."""

from __future__ import annotations

import errno
import socket

from cryptography import x509

from vfl.configuration.federation import FederationConfig, TlsFiles, parse_endpoint
from vfl.doctor.findings import FindingLog, problems
from vfl.doctor.probe import Prober, probe
from vfl.errors import ListenError, VflError
from vfl.messages import Check, Finding
from vfl.party.config import PartySetup
from vfl.party.table_check import checked_table, table_summary
from vfl.pki.credentials import Credentials, load_credentials
from vfl.pki.newest_lists import NewestLists
from vfl.pki.trust import current_time, is_stale

_REPORTED_BY_PROCESS = (Check.VERSION, Check.JOB, Check.STATE)
_NO_LIST = "add its list to tls.revoked; that of an intermediate CA also needs the CA itself in tls.ca"
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # recognized, not listened on


def note_table(notes: FindingLog, setup: PartySetup) -> None:
    """Note whether the table can be used."""
    try:
        notes.ok(Check.TABLE, table_summary(checked_table(setup)))
    except VflError as error:
        notes.failed_here(Check.TABLE, error)


def note_credentials(
    notes: FindingLog,
    files: TlsFiles | None,
    federation: FederationConfig,
    name: str,
    *,
    file: str,
    newest_lists: NewestLists | None = None,
) -> Credentials | None:
    """Note whether peers will accept this member's certificate, for how long, and which revocation lists are in force.

    Args:
        file: where the TLS files are configured.
        newest_lists: which revocation lists this member has used before.
    """
    try:
        credentials = load_credentials(files, federation, name, file=file, newest_lists=newest_lists)
    except VflError as error:
        notes.failed_here(Check.CERTIFICATE, error)
        return None
    if credentials is None:
        what = "no TLS: tls.mode is 'insecure-loopback'"
        notes.warning(Check.CERTIFICATE, what, side=name, remedy="use this mode for experiments only")
        return None
    _note_expiry(notes, credentials)
    _note_revocation(notes, credentials)
    return credentials


def _note_expiry(notes: FindingLog, credentials: Credentials) -> None:
    authorities = (("CA", ca) for ca in _authorities(credentials))
    shown = (("own certificate", credentials.certificate), *authorities)
    for what, certificate in shown:
        text = f"{what}: {_days(certificate)} days left"
        if credentials.ends_soon(certificate):
            remedy = "renew it ('vfl keys sign'); a running process reloads it automatically"
            notes.warning(Check.CERTIFICATE, text, side=notes.source, remedy=remedy)
        else:
            notes.ok(Check.CERTIFICATE, text)


def _days(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - current_time()).days


def _authorities(credentials: Credentials) -> list[x509.Certificate]:
    """The CAs above this member's own certificate, then the others in ``tls.ca``."""
    trust = credentials.trust
    return list(dict.fromkeys((*trust.path(credentials.certificate, credentials.intermediates), *trust.authorities)))


def _note_revocation(notes: FindingLog, credentials: Credentials) -> None:
    trust = credentials.trust
    if not trust.lists:
        notes.ok(Check.REVOCATION, "no revocation list: no certificate is treated as revoked")
        return
    for authority in _authorities(credentials):
        name, revoked = authority.subject.rfc4514_string(), trust.list_of(authority)
        remedy = "get a new one from the CA ('vfl keys revoke' writes it)"
        if revoked is None:
            what = f"no revocation list of {name}: nothing that it issued is treated as revoked"
            notes.warning(Check.REVOCATION, what, side=notes.source, remedy=_NO_LIST)
        elif is_stale(revoked):
            what = f"the revocation list of {name} is stale: {revoked.described()}"
            notes.warning(Check.REVOCATION, what, side=notes.source, remedy=remedy)
        else:
            notes.ok(Check.REVOCATION, f"in force for {name}: {revoked.described()}")


async def check_port(own: Prober, listen: str) -> list[Finding]:
    """Check whether this party's port can be opened or is in use by its own process, and what that process runs.

    Args:
        listen: the address and port that the party listens on.
    """
    notes = FindingLog(own.name, own.name)
    host, port = parse_endpoint(listen, lowest_port=0)
    failure = _try_to_bind(host, port)
    if failure is None:
        remedy = "start it with 'vfl party' before the run"
        notes.warning(
            Check.LISTEN, f"port {port} is free: no process of this party is running", side=own.name, remedy=remedy
        )
    elif failure.errno == errno.EADDRINUSE:
        await _note_process(notes, own, host, port)
    else:
        _note_no_port(notes, f"{listen} cannot be opened: {failure.strerror or 'no such address'}")
    return notes.findings


def _try_to_bind(host: str, port: int) -> OSError | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as opened:
            # Like the server: ignore connections that have just closed.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
    except OSError as error:
        return error
    return None


async def _note_process(notes: FindingLog, own: Prober, host: str, port: int) -> None:
    host = _WILDCARDS.get(host, host)
    found = await probe(own, own.name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    reported = [finding for finding in found if finding.check in _REPORTED_BY_PROCESS]
    if not reported:
        reason = problems(found)[0].summary
        _note_no_port(notes, f"port {port} is in use, but not by a process of this party: {reason}")
        return
    notes.ok(Check.LISTEN, f"port {port} is in use by this party's own process")
    notes.findings.extend(reported)


def _note_no_port(notes: FindingLog, summary: str) -> None:
    remedy = "free the port, or correct this party's 'listen' or 'endpoint' in every party's federation.toml"
    notes.problem(Check.LISTEN, summary, side=notes.source, remedy=remedy, code=ListenError.code)
