"""A party's answer to a diagnostic query from a member of its federation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from vfl.doctor.probe import Prober, probe_others
from vfl.messages import Activity, Diagnose, Diagnosis, Finding
from vfl.pki.trust import current_time
from vfl.runtime.background import start_awaited
from vfl.version import PACKAGE_VERSION, PROTOCOL_VERSION

REUSE_SECONDS = 5.0
"""How long the findings of a probe are reused for further requests, so that nobody is flooded with probes."""


class PartyDoctor:
    """Implements ``vfl.transport.diagnosis.call.DoctorHandler`` for one party. Does not touch its runs.

    Args:
        own: this party, with the files with which it was started.
        activities: the party's current activity for each job, by the digest of the job; never empty.
    """

    def __init__(self, own: Prober, activities: Callable[[], Mapping[str, Activity]]) -> None:
        self._own = own
        self._activities = activities
        self._probe: asyncio.Future[tuple[Finding, ...]] | None = None
        self._probed_at = 0.0

    async def diagnose(self, call: Diagnose) -> Diagnosis:
        """Report what this party runs and, on request, what it finds at the others."""
        findings = await self._probed() if call.probe_peers else ()
        activities = self._activities()
        digest = call.digest if call.digest in activities else next(iter(activities))
        return Diagnosis(
            party=self._own.name,
            protocol_version=PROTOCOL_VERSION,
            package_version=PACKAGE_VERSION,
            digest=digest,
            time=current_time().timestamp(),
            activity=activities[digest],
            findings=findings,
        )

    async def _probed(self) -> tuple[Finding, ...]:
        """One probe at a time, for all who ask."""
        probe = self._probe
        if probe is None or (probe.done() and time.monotonic() - self._probed_at > REUSE_SECONDS):
            probe = self._probe = start_awaited(self._probe_now())
        return await asyncio.shield(probe)

    async def _probe_now(self) -> tuple[Finding, ...]:
        try:
            return await probe_others(self._own)
        finally:
            self._probed_at = time.monotonic()

    async def close(self) -> None:
        """Cancel a probe that is running."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
