"""Passes every call of the coordinator to the service of its job. A party may serve several jobs at once."""

from __future__ import annotations

from collections.abc import Iterator

from vfl import messages as m
from vfl.party.service.service import PartyService


class JobRouter:
    """Implements ``vfl.transport.server.ControlHandler`` for all jobs that a party was started with."""

    def __init__(self) -> None:
        self._services: dict[str, PartyService] = {}

    def __iter__(self) -> Iterator[PartyService]:
        return iter(self._services.values())

    def put(self, job: str, service: PartyService) -> None:
        """From now on runs of this job go to this service."""
        self._services[job] = service

    def _of(self, run: str, digest: str = "") -> PartyService:
        """The service that works on a run; else the one whose job it is: by its digest, or by its name."""
        services = self._services
        working = (service for service in services.values() if service.run == run)
        same = (service for service in services.values() if digest and service.digest == digest)
        named = (services[job] for job in sorted(services, key=len, reverse=True) if run.startswith(f"{job}-"))
        for found in (working, same, named):
            if service := next(found, None):
                return service
        return next(iter(services.values()))  # which says what is wrong

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """See ``PartyService``, as for all that follow."""
        return await self._of(call.job, call.digest).prepare(call)

    async def restore(self, call: m.Restore) -> m.Restored:
        """Take a checkpoint, to go on from it."""
        return await self._of(call.job).restore(call)

    async def align(self, call: m.Align) -> m.Aligned:
        """Find the common ids, exchange keys, build the models."""
        return await self._of(call.job).align(call)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""
        return await self._of(call.job).begin(call)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one batch."""
        return await self._of(call.key.job).run_phase(call)

    async def score(self, call: m.Score) -> m.Scored:
        """Metrics of a scored split."""
        return await self._of(call.job).score(call)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write down the state."""
        return await self._of(call.key.job).checkpoint(call)

    async def commit(self, call: m.Commit) -> m.Committed:
        """All parties have written theirs."""
        return await self._of(call.job).commit(call)

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        """Say what this party does."""
        return await self._of(call.job).heartbeat(call)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save this party's part of the model."""
        return await self._of(call.job).finish(call)

    async def release(self, call: m.Release) -> m.Released:
        """The job is over."""
        return await self._of(call.job).release(call)

    async def abort(self, call: m.Abort) -> None:
        """Stop the job and say why."""
        await self._of(call.job).abort(call)
