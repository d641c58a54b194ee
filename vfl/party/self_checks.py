"""What a member finds at itself: files, certificate, table and port. For its own operator; never sent to anybody."""

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
from vfl.pki.credentials import Credentials, load_credentials
from vfl.pki.trust import current_time

_SAID_BY_THE_PROCESS = (Check.VERSION, Check.JOB, Check.STATE)
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # recognized, not listened on


def check_table(setup: PartySetup) -> str:
    """Load a party's table as a job would; what it holds, in a few words.

    Raises:
        DataError: it cannot be used as configured.
        PolicyRefusal: it has fewer rows than this party's policy asks for.
    """
    table = setup.load_table()
    setup.config.policy.check_rows(len(table))
    features = len(table.numeric_names) + len(table.categorical_names)
    return f"{len(table)} rows, {table.dropped} without an id, {features} features"


def note_table(notes: FindingLog, setup: PartySetup) -> None:
    """Whether the table can be used."""
    try:
        notes.ok(Check.TABLE, check_table(setup))
    except VflError as error:
        notes.failed_here(Check.TABLE, error)


def note_credentials(
    notes: FindingLog, files: TlsFiles | None, federation: FederationConfig, name: str, *, file: str
) -> Credentials | None:
    """Whether every peer will accept this member's certificate, for how long, and whom it can take back."""
    try:
        credentials = load_credentials(files, federation, name, file=file)
    except VflError as error:
        notes.failed_here(Check.CERTIFICATE, error)
        return None
    if credentials is None:
        what = "no TLS at all: tls.mode is 'insecure-loopback'"
        notes.warning(Check.CERTIFICATE, what, side=name, remedy="use it for trying things out only")
        return None
    _note_expiry(notes, credentials)
    _note_revocation(notes, credentials)
    return credentials


def _note_expiry(notes: FindingLog, credentials: Credentials) -> None:
    shown = (("own certificate", credentials.certificate), *(("CA", ca) for ca in credentials.trust.authorities))
    for what, certificate in shown:
        text = f"{what}: {_days(certificate)} days left"
        if credentials.ends_soon(certificate):
            remedy = "renew it ('vfl keys sign'); a running process loads it by itself"
            notes.warning(Check.CERTIFICATE, text, side=notes.source, remedy=remedy)
        else:
            notes.ok(Check.CERTIFICATE, text)


def _days(certificate: x509.Certificate) -> int:
    return (certificate.not_valid_after_utc - current_time()).days


def _note_revocation(notes: FindingLog, credentials: Credentials) -> None:
    if stale := credentials.trust.stale_lists():
        issuers = ", ".join(each.issuer.rfc4514_string() for each in stale)
        remedy = "get a new one from the CA ('vfl keys revoke' writes it)"
        notes.warning(Check.REVOCATION, f"a revocation list is stale: {issuers}", side=notes.source, remedy=remedy)
        return
    count = len(credentials.trust.lists)
    notes.ok(Check.REVOCATION, f"{count} revocation list(s)" if count else "no revocation list: nobody is taken back")


async def check_port(own: Prober, listen: str) -> list[Finding]:
    """Whether this party's port can be opened, or is in use by its own process, and what that process runs.

    Args:
        listen: where the party opens its port.
    """
    notes = FindingLog(own.name, own.name)
    host, port = parse_endpoint(listen, lowest_port=0)
    failure = _try_to_bind(host, port)
    if failure is None:
        remedy = "start it with 'vfl party' before the job"
        notes.warning(Check.LISTEN, f"port {port} is free: no process of this party runs", side=own.name, remedy=remedy)
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
            # As the server does: connections that have just ended do not count.
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(address)
    except OSError as error:
        return error
    return None


async def _note_process(notes: FindingLog, own: Prober, host: str, port: int) -> None:
    host = _WILDCARDS.get(host, host)
    found = await probe(own, own.name, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    said = [finding for finding in found if finding.check in _SAID_BY_THE_PROCESS]
    if not said:
        reason = problems(found)[0].summary
        _note_no_port(notes, f"port {port} is in use, and not by a process of this party: {reason}")
        return
    notes.ok(Check.LISTEN, f"port {port} is in use by this party's own process")
    notes.findings.extend(said)


def _note_no_port(notes: FindingLog, summary: str) -> None:
    remedy = "stop what uses the port, or correct 'listen' or 'endpoint' of this party in everybody's federation.toml"
    notes.problem(Check.LISTEN, summary, side=notes.source, remedy=remedy, code=ListenError.code)
