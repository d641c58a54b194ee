"""Digests of a job and its federation: what parties compare, what calls name, what noise and seeds are bound to."""

from __future__ import annotations

import hashlib
import json

from vfl.configuration.federation import FederationConfig
from vfl.errors import MismatchError
from vfl.job.config import JobConfig
from vfl.privacy.lineage import digest
from vfl.version import PROTOCOL_VERSION

_DEFAULTS = "defaults"


def job_digest(job: JobConfig, federation: FederationConfig) -> str:
    """The digest that parties compare before step 0: one SHA-256 per table, so that an error can name differences.

    Defaults count too: a party whose version of vfl has others is refused.
    """
    tables = job.model_dump(mode="json", exclude={"federation"})
    tables[_DEFAULTS] = job.resolved.model_dump(mode="json", exclude={"federation"})
    tables["federation"] = federation.model_dump(mode="json")
    return ",".join(f"{name}={_hash(value)}" for name, value in sorted(tables.items()))


def differing_tables(own: str, theirs: str) -> list[str]:
    """This side's tables whose digests differ. Table names that only the other side has are not repeated."""
    mine, other = (dict(part.partition("=")[::2] for part in digest.split(",")) for digest in (own, theirs))
    differing = {name for name in mine if mine[name] != other.get(name)}
    return sorted(differing - {_DEFAULTS} or differing)  # defaults depend on what is stated


def check_digest(own: str, theirs: str) -> None:
    """Compare two digests.

    Raises:
        MismatchError: naming the tables that differ.
    """
    if own == theirs:
        return
    shown = differing_tables(own, theirs)
    raise MismatchError(
        f"this party's job or federation file differs from the coordinator's in: {', '.join(shown) or 'its tables'}",
        remedy="give every party the same job.toml, federation.toml and version of vfl, then restart the parties: each "
        "uses the files that it was started with",
    )


def _hash(value: object) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def job_id(job: JobConfig, federation: FederationConfig) -> str:
    """How every call of a run identifies its job: the job's name and one SHA-256 over both files."""
    return f"{job.name}@{hashlib.sha256(job_digest(job, federation).encode()).hexdigest()}"


def training_statement(job: JobConfig, federation: FederationConfig) -> bytes:
    """Digest of everything in the files that determines a trained model. Noise and private seeds are bound to it.

    Defaults count as if they were stated, and the protocol's version stands for everything else that determines a
    model: after an update, the same file may train another one.

    It is not bound to the run's name, which the coordinator chooses: an equal run of the same job is an equal replay,
    draws the same noise and reveals nothing new. Left out is what changes no value: times, checkpoints, addresses, and
    whether the job is encrypted, so that the plaintext protocol draws the same noise. That gives nothing away, because
    noise is also bound to the activations, which the plaintext protocol shows anyway.
    """
    content = job.resolved.model_dump(mode="json", exclude={"federation", "timeouts", "checkpoints"})
    del content["interaction"]["protocol"]
    members = [(party.name, str(party.role)) for party in federation.parties]
    return digest("vfl training", PROTOCOL_VERSION.encode(), canonical(content), canonical(members))


def canonical(value: object) -> bytes:
    """The one JSON text of a value, as ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
