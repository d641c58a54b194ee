"""Routes every call from the coordinator to the service for its job. A party may serve several jobs at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import structlog

from vfl import messages as m
from vfl.errors import MismatchError
from vfl.party.service.service import PartyService
from vfl.runtime.foreign_text import printable


class Host(Protocol):
    """Serves one job of a party, and decides whether another one takes its place."""

    async def between_runs(self, run: str) -> None:
        """Wait while a run that is over is put away; returns at once for a call of that run itself."""

    async def offer(self, call: m.Offer) -> m.Offered:
        """Serve an offered job from now on.

        Raises:
            VflError: this party does not accept it.
        """


class JobRouter:
    """Implements ``vfl.transport.channels.ControlHandler`` for all jobs that a party was started with.

    A call identifies its job by name and digest (``vfl.job.digests.job_id``). Every call for a job that this party does
    not serve is refused: it must not stop, claim or end a run of another job.
    """

    def __init__(self) -> None:
        self._services: dict[str, PartyService] = {}
        self._hosts: dict[str, Host] = {}

    def __iter__(self) -> Iterator[PartyService]:
        return iter(self._services.values())

    def put(self, job: str, service: PartyService) -> None:
        """Route calls for this job, identified by its ``job_id``, to this service."""
        self._services[job] = service

    def remove(self, job: str) -> None:
        """Refuse calls for this job from now on."""
        self._services.pop(job, None)

    def put_host(self, name: str, host: Host) -> None:
        """Let this host decide about offers of jobs of this name."""
        self._hosts[name] = host

    def named_in_logs(self, job: str) -> dict[str, str]:
        """What every line about a job has in addition: its name, if this party serves several."""
        return {"job": job} if len(self._services) > 1 else {}

    def _of(self, job: str) -> PartyService:
        """The service for a job.

        Raises:
            MismatchError: this party does not serve the job.
        """
        if job in self._services:
            structlog.contextvars.bind_contextvars(**self.named_in_logs(job.partition("@")[0]))
            return self._services[job]
        raise self._not_served(job)

    def _not_served(self, job: str) -> MismatchError:
        return MismatchError(
            "this party does not serve the job named in the call",
            detail=f"{printable(job)}; served: {', '.join(self._services)}",
            remedy="give every party the same job.toml and federation.toml, and start each party with the job to run",
        )

    async def _host_of(self, job: str, run: str) -> Host | None:
        """The host of jobs of this name, once it is ready for another run."""
        host = self._hosts.get(job.partition("@")[0])
        if host is not None:
            await host.between_runs(run)
        return host

    def _of_name(self, job: str) -> PartyService | None:
        name = job.partition("@")[0]
        return next((service for own, service in self._services.items() if own.partition("@")[0] == name), None)

    async def offer(self, call: m.Offer) -> m.Offered:
        """Serve the coordinator's job in place of the one of the same name, if this party accepts it."""
        host = await self._host_of(call.job, call.run)
        if host is None:
            raise self._not_served(call.job)
        return await host.offer(call)

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """See ``PartyService``, as for all that follow. If only the name is that of a job here, the error names what
        differs."""
        await self._host_of(call.job, call.run)
        if call.job not in self._services and (same_name := self._of_name(call.job)):
            same_name.lifetime.check(call, same_name.digest)
        return await self._of(call.job).prepare(call)

    async def restore(self, call: m.Restore) -> m.Restored:
        """Restore a checkpoint to resume from."""
        return await self._of(call.job).restore(call)

    async def align(self, call: m.Align) -> m.Aligned:
        """Find the common ids, exchange keys, build the models."""
        return await self._of(call.job).align(call)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""
        return await self._of(call.job).begin(call)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Run one phase of one batch."""
        return await self._of(call.job).run_phase(call)

    async def score(self, call: m.Score) -> m.Scored:
        """Compute the metrics of a scored split."""
        return await self._of(call.job).score(call)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write a checkpoint of the state."""
        return await self._of(call.job).checkpoint(call)

    async def commit(self, call: m.Commit) -> m.Committed:
        """Commit a checkpoint that all parties have written."""
        return await self._of(call.job).commit(call)

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        """Report what this party is doing."""
        return await self._of(call.job).heartbeat(call)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save this party's part of the model."""
        return await self._of(call.job).finish(call)

    async def release(self, call: m.Release) -> m.Released:
        """End the run: it is over at all parties."""
        return await self._of(call.job).release(call)

    async def abort(self, call: m.Abort) -> None:
        """Stop the run and record why.

        A run may have failed because this party's files differ from the coordinator's. Only for a run that was refused
        here for that reason, a matching job name is enough, so that a waiting party learns why the run will not begin.
        """
        same_name = self._of_name(call.job)
        if call.job not in self._services and same_name and same_name.lifetime.has_refused(call.run):
            await same_name.abort(call)
        else:
            await self._of(call.job).abort(call)
