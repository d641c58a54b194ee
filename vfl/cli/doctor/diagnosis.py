"""``vfl doctor``: what would stop a run, and who needs to fix what. Starts no run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import chain
from pathlib import Path

from vfl.configuration.federation import FederationConfig, PartyEntry
from vfl.coordinator.config import CoordinatorConfig
from vfl.doctor.findings import FindingLog, problems
from vfl.doctor.probe import Prober, note_refusal, probe, probe_others
from vfl.errors import VflError, all_error_types
from vfl.job.config import JobConfig
from vfl.job.digests import job_digest
from vfl.job.setup import load_job_setup
from vfl.messages import Check, Diagnose, Finding
from vfl.party.config import PartySetup, load_party
from vfl.party.jobs.acceptance import check_acceptable
from vfl.party.self_checks import check_port, note_credentials, note_table
from vfl.pki.credentials import Credentials
from vfl.pki.newest_lists import NewestLists
from vfl.runtime.background import together
from vfl.transport.diagnosis.call import ask_diagnosis
from vfl.transport.relay.tunnel import dialed

PROBE_SECONDS = 25.0
"""For a party to try all others: two addresses, a handshake, an answer, a name; each has its own timeout."""
_HERE = "here"


async def diagnose_party(file: Path) -> list[Finding]:
    """A party's view: its own files, table and port, and what it finds at the other parties."""
    notes = FindingLog(_HERE, _HERE)
    try:
        setup = load_party(file)
    except VflError as error:
        notes.failed_here(Check.FILES, error)
        return notes.findings
    notes = FindingLog(setup.name, setup.name)
    _note_acceptable(notes, setup)
    lists = NewestLists(setup.config.newest_lists, changes=False)
    tls = setup.config.tls
    credentials = note_credentials(notes, tls, setup.federation, setup.name, file="party.toml", newest_lists=lists)
    note_table(notes, setup)
    if _cannot_connect(credentials, setup.federation):
        return notes.findings
    own = _standpoint(setup.name, setup.job, setup.federation, credentials)
    return [*notes.findings, *await _from_party(own, setup.entry)]


async def diagnose_job(file: Path, settings: Callable[[], CoordinatorConfig]) -> list[Finding]:
    """The coordinator's view: its own files, what it finds at every party, and what each of them finds at the others.

    Args:
        settings: loads coordinator.toml.
    """
    notes = FindingLog(_HERE, _HERE)
    try:
        job, federation, _ = load_job_setup(file)
        own = settings()
    except VflError as error:
        notes.failed_here(Check.FILES, error)
        return notes.findings
    name = federation.coordinator
    notes = FindingLog(name, name)
    notes.ok(Check.FILES, f"job '{job.name}' and federation '{federation.name}' are valid")
    lists = NewestLists(own.newest_lists, changes=False)
    credentials = note_credentials(notes, own.tls, federation, name, file="coordinator.toml", newest_lists=lists)
    if _cannot_connect(credentials, federation):
        return notes.findings
    return [*notes.findings, *await _from_coordinator(_standpoint(name, job, federation, credentials))]


def _standpoint(name: str, job: JobConfig, federation: FederationConfig, credentials: Credentials | None) -> Prober:
    return Prober(name, federation, job_digest(job, federation), credentials)


def _cannot_connect(credentials: Credentials | None, federation: FederationConfig) -> bool:
    return credentials is None and federation.is_mutual_tls


def _note_acceptable(notes: FindingLog, setup: PartySetup) -> None:
    try:
        check_acceptable(setup)
    except VflError as error:
        notes.failed_here(Check.FILES, error)
        return
    notes.ok(Check.FILES, f"party, job '{setup.job.name}' and federation '{setup.federation.name}' are valid")


async def _from_party(own: Prober, entry: PartyEntry) -> list[Finding]:
    if entry.via is not None:
        notes = FindingLog(own.name, own.name)
        notes.ok(Check.LISTEN, f"{own.name} opens no port and is reached through {entry.via}")
        return [*notes.findings, *await probe_others(own)]
    port, others = await together(check_port(own, entry.listen_endpoint), probe_others(own))
    return [*port, *others]


async def _from_coordinator(own: Prober) -> list[Finding]:
    views = await together(*(_at_party(own, peer) for peer in own.others))
    direct, relayed = zip(*views, strict=True)
    return [*chain.from_iterable(direct), *chain.from_iterable(relayed)]


async def _at_party(own: Prober, peer: str) -> tuple[list[Finding], list[Finding]]:
    """What the coordinator finds at a party, and what that party finds at the others if it answers."""
    direct = await probe(own, peer)
    if not any(finding.check is Check.STATE for finding in direct):
        return direct, []
    notes = FindingLog(own.name, peer)
    call = Diagnose(probe_peers=True, digest=own.digest)
    try:
        async with AsyncExitStack() as stack:
            endpoint = (await dialed(stack, own.federation, own.name, peer, own.credentials)).endpoint
            answer = await ask_diagnosis(endpoint, peer, own.credentials, call, own.federation, PROBE_SECONDS)
    except VflError as error:
        note_refusal(notes, error)
        return direct, notes.findings
    return direct, list(answer.diagnosis.findings)


def exit_code(findings: list[Finding]) -> int:
    """0 if there is no problem, else the exit code of the error with which a run would end."""
    found = problems(findings)
    return all_error_types()[found[0].code].exit_code if found else 0
