"""Passes every call of the coordinator to the service of its job. A party may serve several jobs at once."""

from __future__ import annotations

from collections.abc import Iterator

from vfl import messages as m
from vfl.errors import MismatchError
from vfl.job.config import check_digest
from vfl.party.service.service import PartyService


class JobRouter:
    """Implements ``vfl.transport.channels.ControlHandler`` for all jobs that a party was started with.

    A call names its job by name and digest (``vfl.job.config.job_id``). One of a job that this party does not serve is
    refused, whatever it asks for: it must not stop, claim or end a run of another job.
    """

    def __init__(self) -> None:
        self._services: dict[str, PartyService] = {}

    def __iter__(self) -> Iterator[PartyService]:
        return iter(self._services.values())

    def put(self, job: str, service: PartyService) -> None:
        """From now on calls of this job, by its ``job_id``, go to this service."""
        self._services[job] = service

    def _of(self, job: str, digest: str = "") -> PartyService:
        """The service of a job.

        Args:
            digest: of the caller's files, table by table, where the call has it: then a difference can be named.

        Raises:
            MismatchError: this party does not serve the job.
        """
        if job in self._services:
            return self._services[job]
        if digest and (same_name := self._of_name(job)):
            try:
                check_digest(same_name.digest, digest)
            except MismatchError as error:
                same_name.lifetime.refused(error)
                raise
        raise MismatchError(
            "this party does not serve the job of the call",
            detail=f"{job}; served: {', '.join(self._services)}",
            remedy="give every party the same job.toml and federation.toml, and start each with the job that is to run",
        )

    def _of_name(self, job: str) -> PartyService | None:
        name = job.partition("@")[0]
        return next((service for own, service in self._services.items() if own.partition("@")[0] == name), None)

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
        return await self._of(call.job).run_phase(call)

    async def score(self, call: m.Score) -> m.Scored:
        """Metrics of a scored split."""
        return await self._of(call.job).score(call)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write down the state."""
        return await self._of(call.job).checkpoint(call)

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
        """The run is over."""
        return await self._of(call.job).release(call)

    async def abort(self, call: m.Abort) -> None:
        """Stop the run and say why.

        A run may have failed because this party's files differ from the coordinator's. Then the name of the job is
        enough, so that a party that waits for the run hears why it will not come.
        """
        service = self._services.get(call.job) or self._of_name(call.job)
        await (service or self._of(call.job)).abort(call)
