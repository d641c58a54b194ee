"""What one member finds when it contacts a party: name, connection, TLS, and the party's report about itself.

Starts no run and changes nothing at the party.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import chain

from cryptography import x509

from vfl.configuration.federation import FederationConfig
from vfl.doctor.findings import FindingLog, problems
from vfl.errors import AccessDenied, MismatchError, PeerUnreachable, PolicyRefusal, RemoteError, VflError
from vfl.job.digests import differing_tables
from vfl.messages import Activity, Check, Diagnose, Finding
from vfl.pki.credentials import Credentials
from vfl.pki.server_certificate import check_server
from vfl.pki.trust import CertificateRefused, Refusal, current_time, member_of
from vfl.runtime.background import together
from vfl.transport.diagnosis.call import Answer, ask_diagnosis
from vfl.transport.diagnosis.connection_check import Attempt, try_connection
from vfl.transport.relay.tunnel import dialed
from vfl.version import PACKAGE_VERSION, PROTOCOL_VERSION

ANSWER_SECONDS = 5.0
MAX_CLOCK_SECONDS = 30.0


@dataclass(frozen=True)
class Prober:
    """The member that checks, and what it compares with.

    Attributes:
        digest: of this member's own job and federation, see ``job_digest``.
        credentials: None only with ``insecure-loopback``.
    """

    name: str
    federation: FederationConfig
    digest: str
    credentials: Credentials | None

    @property
    def others(self) -> tuple[str, ...]:
        """The parties that this member can contact."""
        return tuple(party.name for party in self.federation.parties if party.name != self.name)


async def probe_others(own: Prober) -> tuple[Finding, ...]:
    """What this member finds at every other party. All are tried simultaneously, each for some seconds."""
    found = await together(*(probe(own, peer) for peer in own.others))
    return tuple(chain.from_iterable(found))


async def probe(own: Prober, peer: str, endpoint: str | None = None) -> list[Finding]:
    """What this member finds at one party, up to the first step that fails.

    Args:
        endpoint: where to contact it; by default the endpoint in ``federation.toml``.
    """
    notes = FindingLog(own.name, peer)
    via = own.federation.party(peer).via
    async with AsyncExitStack() as stack:
        if endpoint is None:
            endpoint = (await dialed(stack, own.federation, own.name, peer, own.credentials)).endpoint
        attempt = await try_connection(endpoint, peer, own.credentials, own.name)
        _note_connection(notes, attempt, via)
        if attempt.certificate is not None and own.credentials is not None:
            _note_certificate(notes, attempt.certificate, attempt.intermediates, own.credentials)
        # A party whose certificate was refused is not asked: that would be refused for the same reason.
        if attempt.obstacle is None and not problems(notes.findings):
            await _ask(notes, own, endpoint)
    return notes.findings


def _note_connection(notes: FindingLog, attempt: Attempt, via: str | None) -> None:
    for check, seen in attempt.passed.items():
        # The first steps to a party without a port only reach this machine; its relay is checked separately.
        if via is None or check is Check.TLS:
            notes.ok(check, seen)
    if (stop := attempt.obstacle) is None:
        return
    if via is not None:
        summary = f"no connection to {notes.target}, which is reached through {via}"
        remedy = f"start {notes.target} and {via}; their logs say why they are not connected"
        notes.problem(stop.check, summary, side=notes.target, remedy=remedy, code=stop.code)
        return
    side = notes.target if stop.at_peer else notes.source
    notes.problem(stop.check, stop.summary, side=side, remedy=stop.remedy, code=stop.code)


def _note_certificate(
    notes: FindingLog,
    certificate: x509.Certificate,
    intermediates: tuple[x509.Certificate, ...],
    credentials: Credentials,
) -> None:
    """Note whether a certificate is the party's, and whether it and every CA above it is valid and not revoked."""
    peer, trust = notes.target, credentials.trust
    try:
        if (owner := member_of(certificate, credentials.federation)) != peer:
            raise CertificateRefused(Refusal.WRONG_MEMBER, f"the certificate belongs to {owner}")
        check_server(certificate)
        trust.check_chain(certificate, intermediates)
    except CertificateRefused as error:
        notes.failed(Check.CERTIFICATE, error, side=peer)
        return
    first, *above = sorted((certificate, *trust.path(certificate, intermediates)), key=lambda x: x.not_valid_after_utc)
    days = f"{(first.not_valid_after_utc - current_time()).days} days left"
    if credentials.ends_soon(first):
        whose = "the certificate" if first == certificate else "a CA above the certificate"
        remedy = "renew it ('vfl keys sign'); a running process reloads it automatically"
        notes.warning(Check.CERTIFICATE, f"{whose} of {peer} expires soon: {days}", side=peer, remedy=remedy)
    else:
        notes.ok(Check.CERTIFICATE, f"{days}; {len(above)} CA(s) above it checked")


async def _ask(notes: FindingLog, own: Prober, endpoint: str) -> None:
    try:
        answer = await ask_diagnosis(
            endpoint,
            notes.target,
            own.credentials,
            Diagnose(probe_peers=False, digest=own.digest),
            own.federation,
            ANSWER_SECONDS,
        )
        if answer.diagnosis.party != notes.target:
            raise MismatchError(
                f"a party other than {notes.target} answers", remedy="correct its endpoint in federation.toml"
            )
    except VflError as error:
        note_refusal(notes, error)
        return
    notes.ok(Check.ANSWER, f"{notes.target} answers")
    for judge in (_judge_version, _judge_job, _judge_clock, _judge_state):
        judge(notes, own, answer)


def note_refusal(notes: FindingLog, error: VflError) -> None:
    """Note that a party refused a call or did not answer; the error determines who needs to act."""
    refused = isinstance(error, RemoteError) and error.remote_code == AccessDenied.code
    notes.failed(Check.ANSWER, error, side=notes.source if refused else notes.target)


def _judge_version(notes: FindingLog, _: Prober, answer: Answer) -> None:
    peer, report = notes.target, answer.diagnosis
    both = f"{notes.source} runs vfl {PACKAGE_VERSION}, protocol {PROTOCOL_VERSION}; {peer} runs vfl "
    both += f"{report.package_version}, protocol {report.protocol_version}"
    remedy = "install the same version of vfl everywhere"
    if report.protocol_version != PROTOCOL_VERSION:
        notes.problem(Check.VERSION, both, side=peer, remedy=remedy, code=MismatchError.code)
    elif report.package_version != PACKAGE_VERSION:
        notes.warning(Check.VERSION, both, side=peer, remedy=remedy)
    else:
        notes.ok(Check.VERSION, f"both run vfl {PACKAGE_VERSION}, protocol {PROTOCOL_VERSION}")


def _judge_job(notes: FindingLog, own: Prober, answer: Answer) -> None:
    if answer.diagnosis.digest == own.digest:
        notes.ok(Check.JOB, "the same job and federation")
        return
    tables = ", ".join(differing_tables(own.digest, answer.diagnosis.digest)) or "tables"
    notes.problem(
        Check.JOB,
        f"job or federation of {notes.target}'s process differ from {notes.source}'s files in: {tables}",
        side=notes.target,
        remedy="give everybody the same job.toml and federation.toml; a party reads them when it starts. A run may "
        "still begin if [accept] of that party's party.toml allows what differs in the job",
        code=MismatchError.code,
    )


def _judge_clock(notes: FindingLog, _: Prober, answer: Answer) -> None:
    middle = (answer.asked.timestamp() + answer.answered.timestamp()) / 2
    ahead = answer.diagnosis.time - middle
    if abs(ahead) <= MAX_CLOCK_SECONDS:  # false if the time is NaN
        notes.ok(Check.CLOCK, f"the clocks differ by {abs(ahead):.0f} s")
        return
    notes.warning(
        Check.CLOCK,
        f"the clock of {notes.target} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {notes.source}'s",
        side=notes.target,
        remedy=f"synchronize the clock there, or at {notes.source}, with a time server: certificates depend on it",
    )


def _judge_state(notes: FindingLog, _: Prober, answer: Answer) -> None:
    peer = notes.target
    match answer.diagnosis.activity:
        case Activity.WAITING:
            notes.ok(Check.STATE, f"{peer} is waiting for a job")
        case Activity.BUSY:
            remedy = "wait until that run is over, or stop it"
            what = f"{peer} is busy with a run and would refuse another"
            notes.problem(Check.STATE, what, side=peer, remedy=remedy, code=PolicyRefusal.code)
        case Activity.STOPPED:
            what, remedy = f"the process of {peer} is about to end", "restart it ('vfl party')"
            notes.problem(Check.STATE, what, side=peer, remedy=remedy, code=PeerUnreachable.code)
