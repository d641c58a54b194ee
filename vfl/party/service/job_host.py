"""Where one job file of a party is served: each of its runs by a service with an audit log of its own."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from vfl.audit.trail import AuditTrail, AuditTrails, Terms
from vfl.errors import JobAborted, VflError
from vfl.job.config import job_id
from vfl.party.config import PartySetup
from vfl.party.service.router import JobRouter
from vfl.party.service.service import PartyService
from vfl.pki.credentials import Credentials
from vfl.transport.client import PeerClient
from vfl.transport.inbox import Inbox
from vfl.transport.wire.traffic import TrafficMeter

_log = structlog.get_logger("vfl.party")

LAST_WORDS_SECONDS = 3.0
"""How long to wait for calls that tell the coordinator why this party stops, and for those in progress to end."""
_LAST_ANSWER_SECONDS = 0.2


@dataclass(frozen=True)
class PartyResources:
    """What the jobs of one party have in common."""

    clients: Mapping[str, PeerClient]
    inbox: Inbox
    traffic: TrafficMeter
    trails: AuditTrails
    credentials: Credentials | None
    router: JobRouter


class JobHost:
    """Serves the runs of one job.

    Args:
        setup: the party's files for it.
        shared: with the other jobs.
        stopping: the signal that ends the process, once it has come.
        keep_serving: wait for another run when one has ended.
    """

    def __init__(
        self, setup: PartySetup, shared: PartyResources, stopping: asyncio.Future[int], *, keep_serving: bool
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
            keep_serving=self._keep_serving,
        )
        shared.router.put(job_id(setup.job, setup.federation), self._service)

    async def serve(self) -> VflError | None:
        """Until a run has ended, or with ``keep_serving`` until the process stops; what ended it."""
        while True:
            error = await self._outcome()
            if not self._keep_serving or self._stopping.done():
                return error
            await asyncio.sleep(_LAST_ANSWER_SECONDS)  # the answer to the call that ended the run is on its way
            self.close()
            self._shared.trails.remove(self._trail)
            self._shared.inbox.discard_run(self._service.run)
            self._open()
            _log.info("waiting for the next run", job=self._setup.job.name)

    async def _outcome(self) -> VflError | None:
        async def stop() -> None:
            number = await asyncio.shield(self._stopping)
            # SIGTERM is how service managers, containers and machines that restart end a process, to start it again.
            if number == signal.SIGTERM:
                self._service.go_away()
            else:
                self._service.stop()

        helpers = [asyncio.create_task(self._service.watch()), asyncio.create_task(stop())]
        try:
            error = await self._service.outcome
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        if error is not None:
            await self._service.last_words(LAST_WORDS_SECONDS)
        return error

    def close(self) -> None:
        """Leave nothing running, and close the audit log."""
        self._service.close()
        outcome = self._service.outcome
        ended = outcome.done() and not outcome.cancelled()
        self._trail.close(outcome.result() if ended else JobAborted("the process was stopped"))
