"""Serves one job file of a party: each run gets its own service and audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from vfl.audit.trail import AuditTrail, AuditTrails, Terms
from vfl.errors import JobAborted, VflError
from vfl.job.callbacks import Callback, Callbacks
from vfl.job.digests import job_id
from vfl.party.config import PartySetup
from vfl.party.service.router import JobRouter
from vfl.party.service.service import PartyService
from vfl.party.service.stopping import StopReason
from vfl.pki.credentials import Credentials
from vfl.runtime.background import give_up, start
from vfl.runtime.logs import get_logger
from vfl.transport.channels import PeerChannel
from vfl.transport.grpc_network import LAST_WORDS_SECONDS
from vfl.transport.inbox import Inbox
from vfl.transport.wire.traffic import TrafficMeter

_log = get_logger("vfl.party")

_LAST_ANSWER_SECONDS = 0.2


@dataclass(frozen=True)
class PartyResources:
    """Resources shared by all jobs of one party."""

    clients: Mapping[str, PeerChannel]
    inbox: Inbox
    traffic: TrafficMeter
    trails: AuditTrails
    credentials: Credentials | None
    router: JobRouter
    callbacks: tuple[Callback, ...] = ()


class JobHost:
    """Serves the runs of one job.

    Args:
        setup: the party's files for the job.
        shared: resources shared with the other jobs.
        stopping: gets a result when the party is to stop.
        keep_serving: wait for another run when one has ended.
    """

    def __init__(
        self, setup: PartySetup, shared: PartyResources, stopping: asyncio.Future[StopReason], *, keep_serving: bool
    ) -> None:
        self._setup = setup
        self._shared = shared
        self._stopping = stopping
        self._keep_serving = keep_serving
        self._open()

    def _open(self) -> None:
        setup, shared = self._setup, self._shared
        policy = setup.config.policy.model_dump(mode="json")
        self._trail = AuditTrail(setup.config.audit.directory, Terms(setup.name, setup.job, setup.federation, policy))
        shared.trails.add(self._trail)
        self._service = PartyService(
            setup,
            shared.clients,
            shared.inbox,
            shared.traffic,
            self._trail,
            shared.credentials,
            Callbacks(shared.callbacks),
            keep_serving=self._keep_serving,
        )
        shared.router.put(job_id(setup.job, setup.federation), self._service)

    async def serve(self) -> VflError | None:
        """Serve until a run has ended, or with ``keep_serving`` until the process stops; return the error, if any."""
        structlog.contextvars.bind_contextvars(**self._named)
        while True:
            error = await self._outcome()
            if not self._keep_serving or self._stopping.done():
                return error
            if error is not None:
                _log.error("the run failed", job=self._setup.job.name, code=error.code, reason=str(error))
            await asyncio.sleep(_LAST_ANSWER_SECONDS)  # the reply to the call that ended the run is in transit
            self.close()
            self._shared.trails.remove(self._trail)
            self._shared.inbox.discard_run(self._service.run)
            self._open()
            _log.info("waiting for the next run", job=self._setup.job.name)

    async def _outcome(self) -> VflError | None:
        async def stop() -> None:
            if await asyncio.shield(self._stopping) is StopReason.PROCESS_ENDING:
                self._service.lifetime.go_away()
            else:
                self._service.lifetime.stop()

        lifetime = self._service.lifetime
        beside = [start(work, failed=lifetime.failed) for work in (lifetime.watch(), stop())]
        try:
            error = await lifetime.outcome
        finally:
            await give_up(*beside)
        if error is not None:
            await lifetime.last_words(LAST_WORDS_SECONDS)
        return error

    def close(self) -> None:
        """Stop all work and close the audit log."""
        self._service.close()
        outcome = self._service.lifetime.outcome
        ended = outcome.done() and not outcome.cancelled()
        with structlog.contextvars.bound_contextvars(**self._named):
            self._trail.close(outcome.result() if ended else JobAborted("the process was stopped"))

    @property
    def _named(self) -> dict[str, str]:
        return self._shared.router.named_in_logs(self._setup.job.name)
