"""``vfl check``: recognize the kind of a file, and validate it with everything it refers to."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from vfl.configuration.federation import FederationConfig, load_federation
from vfl.configuration.toml_files import load_toml, read_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.errors import ConfigError
from vfl.he.arithmetic.updates import effective_rate, most_rows
from vfl.he.parameters import Parameters
from vfl.job.acceptance import in_words
from vfl.job.config import JobConfig
from vfl.job.setup import load_job, load_job_setup
from vfl.party.config import PartyConfig, PartySetup, load_party, party_credentials
from vfl.party.jobs.acceptance import check_acceptable
from vfl.party.own_bottom import trial_width
from vfl.party.roles.disclosure import ledger_left
from vfl.party.table_check import checked_table, table_report, table_summary
from vfl.pki.credentials import load_credentials
from vfl.pki.newest_lists import NewestLists


class Kind(StrEnum):
    """Kind of a configuration file."""

    PARTY = "party"
    JOB = "job"
    FEDERATION = "federation"
    COORDINATOR = "coordinator"


def kind_of(path: Path) -> Kind:
    """Recognize the kind of a file by its keys.

    Raises:
        ConfigError: it is missing or cannot be read.
    """
    keys = set(read_toml(path))
    if keys & {"data", "job"}:
        return Kind.PARTY
    if "task" in keys or "training" in keys:
        return Kind.JOB
    return Kind.FEDERATION if "parties" in keys else Kind.COORDINATOR


def check_file(path: Path, others: Sequence[Path] = ()) -> str:
    """Validate one file; return a summary of it: a line, and for a party what was understood of its table.

    Args:
        others: files of the same command; coordinator.toml names no federation, so it is checked against theirs.

    Raises:
        VflError: the first problem, with file, key and remedy.
    """
    match kind_of(path):
        case Kind.PARTY:
            return _check_party(path)
        case Kind.JOB:
            return _check_job(path)
        case Kind.FEDERATION:
            federation = load_federation(path)
            parties = len(federation.parties)
            return f"federation '{federation.name}', {parties} parties, tls {federation.tls.mode}: valid"
        case Kind.COORDINATOR:
            return _check_coordinator(path, others)


def _check_job(path: Path) -> str:
    job, federation, parameters = load_job_setup(path)
    trainable = job.model.trainable
    learns = f"trains the bottom of {', '.join(trainable)}, which learns labels by that, " if trainable else ""
    by = job.split.by
    chosen = "" if by == "random" else f"rows split by {by}, which the active party tells the others, "
    return (
        f"job '{job.name}', {job.task.kind}, {job.passes} {'stagewise' if job.stagewise else 'joint'} passes, "
        f"{job.local_epochs} local epochs, K = {job.interaction_width}, {job.releases_per_row} releases of a training "
        f"row, noise {job.privacy.z_noise:g} on Z and {job.relative_noise:g} of its deviation, "
        f"{_rate(job, parameters)}, {learns}{chosen}{job.interaction.protocol}, {len(federation.parties)} parties, "
        f"ring 2^{parameters.tau} at 128 bits: valid"
    )


def _rate(job: JobConfig, parameters: Parameters) -> str:
    """The rate of the interaction weights, and what integers make of it."""
    stated = f"interaction rate {job.interaction_rate:g}"
    if job.stagewise:
        rows = most_rows(job.interaction_rate, parameters.settings)
        return f"{stated} (as an integer within 5 % for up to {rows:,} training rows)"
    rate = effective_rate(job.interaction_rate, job.training.batch_size, parameters.settings)
    return f"{stated} ({rate:.4g} as integers)"


def _check_party(path: Path) -> str:
    setup = load_party(path)
    check_acceptable(setup)
    party_credentials(setup, looks_only=True)
    table, left = checked_table(setup), ledger_left(setup)
    width = trial_width(setup, table)
    facts = [
        f"party '{setup.name}', {setup.entry.role}, {table_summary(table)}",
        f"bottom of width {width}" if width else "no bottom",
        *([left] if left else []),
        *(["its bottom trains, so it learns labels"] if setup.name in setup.job.model.trainable else []),
        f"job '{setup.job.name}': valid",
    ]
    return "\n".join([", ".join(facts), *_accepted(setup), table_report(setup, table)])


def _accepted(setup: PartySetup) -> list[str]:
    """What may differ in a job that the coordinator offers, a line for each key."""
    rules = setup.config.accept
    if not rules:
        return []
    lines = [f"  {key}: {in_words(rule)}" for key, rule in rules.items()]
    return ["may differ in a job that the coordinator offers:", *lines]


def _check_coordinator(path: Path, others: Sequence[Path]) -> str:
    settings = load_toml(path, CoordinatorConfig)
    tls = settings.tls
    federation = _federation_for(path, others)
    if federation is None:
        if tls is None:
            return "coordinator settings: valid"
        raise ConfigError(
            "the coordinator's certificate cannot be checked without its federation",
            detail=f"there is no job.toml or federation.toml in the folder of {path} or the one above",
            remedy="name federation.toml or job.toml in the same command",
        )
    lists = NewestLists(settings.newest_lists, changes=False)
    load_credentials(tls, federation, federation.coordinator, file="coordinator.toml", newest_lists=lists)
    return f"coordinator settings, federation '{federation.name}': valid"


def _federation_for(path: Path, others: Sequence[Path]) -> FederationConfig | None:
    """From the files of the same command, or else those in the coordinator.toml's folder or the one above."""
    folders = (path.parent, path.absolute().parent.parent)
    beside = [folder / name for folder in folders for name in ("federation.toml", "job.toml")]
    for candidate in (*others, *(file for file in beside if file.is_file())):
        try:
            match kind_of(candidate):
                case Kind.FEDERATION:
                    return load_federation(candidate)
                case Kind.JOB:
                    return load_federation(load_job(candidate).federation)
                case Kind.PARTY:
                    return load_federation(load_job(load_toml(candidate, PartyConfig).job).federation)
        except ConfigError:
            continue  # problems of that file are reported for that file itself
    return None
