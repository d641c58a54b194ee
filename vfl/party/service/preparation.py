"""Checks before a run that this party can and may take part, and opens the store for its state."""

from __future__ import annotations

import asyncio

from vfl import messages as m
from vfl.audit.trail import AuditTrail
from vfl.checkpoints.store import CheckpointStore, Origin
from vfl.errors import PolicyRefusal, ProtocolError
from vfl.job.digests import check_digest
from vfl.party.config import PartySetup
from vfl.party.jobs.acceptance import check_acceptable
from vfl.party.roles.disclosure import check_ledger
from vfl.party.roles.saving import make_output
from vfl.runtime.foreign_text import printable
from vfl.version import PROTOCOL_VERSION


def check_protocol(call: m.Prepare | m.Offer) -> None:
    """Check that a coordinator speaks this party's protocol.

    Raises:
        ProtocolError: it speaks another.
    """
    if call.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the coordinator speaks protocol {printable(call.protocol_version, 20)}, this party {PROTOCOL_VERSION}",
            remedy="install the same version of vfl everywhere",
        )


def check_call(call: m.Prepare | m.Offer, digest: str) -> None:
    """Check that a coordinator speaks this party's protocol and has its files, before anything begins for its run.

    Models, checkpoints and audit logs are kept by the name of the run, so it has to be one of this job.

    Args:
        digest: digest of this party's job and federation.

    Raises:
        ProtocolError: it speaks another protocol.
        MismatchError: its files differ; names the tables that do.
        PolicyRefusal: the run is named as one of another job.
    """
    check_protocol(call)
    check_digest(digest, call.digest)
    if call.run.rpartition("-")[0] != call.job.partition("@")[0]:
        raise PolicyRefusal(
            "the coordinator gave a run the name of another job's",
            detail=repr(printable(call.run)),
            remedy="check that the coordinator runs the same version of vfl; if it does, ask its operator why",
        )


def check_not_over(trail: AuditTrail, run: str) -> None:
    """Check that a run has not come to its end here: it would be trained again in place of the model that was saved.

    Raises:
        PolicyRefusal: it has, and a coordinator that has released all parties does not begin it again.
        AuditError: the log of the run cannot be read.
    """
    if trail.past(run).finished:
        raise PolicyRefusal(
            "the coordinator began a run again that is finished here, and whose model would be replaced",
            detail=run,
            remedy="start a new run",
        )


async def prepared_store(setup: PartySetup, run: str, digest: str) -> CheckpointStore:
    """Check that the job is acceptable and that its results can be saved; return the run's checkpoint store.

    Args:
        digest: digest of the job and the federation.

    Raises:
        ConfigError, PolicyRefusal: see ``check_acceptable`` and ``make_output``.
        CheckpointError: there is no space for checkpoints.
        LedgerError: the disclosure ledger was put back from a copy, or cannot be used.
    """
    check_acceptable(setup)
    await asyncio.to_thread(check_ledger, setup)
    await asyncio.to_thread(make_output, setup.config.output)
    return CheckpointStore(setup.config.checkpoints, Origin(run, digest, setup.name))
