"""Checks before a run that this party can and may take part, and opens the store for its state."""

from __future__ import annotations

import asyncio

from vfl.checkpoints.store import CheckpointStore, Origin
from vfl.party.config import PartySetup, check_acceptable
from vfl.party.roles.saving import make_output


async def prepared_store(setup: PartySetup, run: str, digest: str) -> CheckpointStore:
    """Check that the job is acceptable and that its results can be saved; return the run's checkpoint store.

    Args:
        digest: digest of the job and the federation.

    Raises:
        ConfigError, PolicyRefusal: see ``check_acceptable`` and ``make_output``.
        CheckpointError: there is no space for checkpoints.
    """
    check_acceptable(setup)
    await asyncio.to_thread(make_output, setup.config.output)
    return CheckpointStore(setup.config.checkpoints, Origin(run, digest, setup.name))
