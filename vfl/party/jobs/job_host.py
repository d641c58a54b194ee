"""Serves one job of a party: each run gets its own service and audit log."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog

from vfl import messages as m
from vfl.audit.trail import AuditTrail, AuditTrails, Terms
from vfl.errors import JobAborted, VflError
from vfl.job.acceptance import as_text, differing, settings
from vfl.job.callbacks import Callback, Callbacks
from vfl.job.digests import job_digest, job_id
from vfl.party.config import PartySetup
from vfl.party.jobs.accepted_job import AcceptedJob, accepted_setup
from vfl.party.jobs.own_record import OwnRecord
from vfl.party.service.refusals import busy
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
_REOPEN_SECONDS = 1.0


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
    """Serves the runs of one job: that of the party's file or, in its place, one that the coordinator offered.

    Args:
        setup: the party's files for the job.
        shared: resources shared with the other jobs.
        stopping: gets a result when the party is to stop.
        keep_serving: wait for another run when one has ended.
    """

    def __init__(
        self, setup: PartySetup, shared: PartyResources, stopping: asyncio.Future[StopReason], *, keep_serving: bool
    ) -> None:
        self._own = setup
        self._kept = AcceptedJob(setup)
        self._setup = self._kept.setup()
        self._shared = shared
        self._stopping = stopping
        self._keep_serving = keep_serving
        self._reopened = asyncio.Event()
        self._trail = self._open_trail()
        self._service = self._open_service()
        shared.router.put_host(setup.job.name, self)
        if self._setup is not setup:
            self._log_accepted("serving the job that was accepted last")

    def _open_trail(self) -> AuditTrail:
        trail = AuditTrail(self._setup.config.audit.directory, self._terms)
        self._shared.trails.add(trail)
        return trail

    def _open_service(self) -> PartyService:
        setup, shared = self._setup, self._shared
        self._record = OwnRecord(setup)
        service = PartyService(
            setup,
            shared.clients,
            shared.inbox,
            shared.traffic,
            self._trail,
            shared.credentials,
            Callbacks((self._record, *shared.callbacks)),
            keep_serving=self._keep_serving,
        )
        shared.router.put(self._job_id, service)
        return service

    @property
    def _job_id(self) -> str:
        return job_id(self._setup.job, self._setup.federation)

    @property
    def _terms(self) -> Terms:
        setup = self._setup
        policy, differs = setup.config.policy.model_dump(mode="json"), differing(self._own.job, setup.job)
        offered = {
            "settings": {key: as_text(value) for key, value in settings(setup.job.resolved).items()},
            "in_file": {key: as_text(own) for key, (own, _) in differs.items()},
        }
        return Terms(setup.name, setup.job, setup.federation, policy, offered if differs else None)

    # --- offers ---

    async def between_runs(self, run: str) -> None:
        """See ``Host``. The coordinator may begin its next run as soon as the last party has released one."""
        service = self._service
        if self._keep_serving and service.run not in ("", run) and service.lifetime.outcome.done():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._reopened.wait(), LAST_WORDS_SECONDS + _REOPEN_SECONDS)

    async def offer(self, call: m.Offer) -> m.Offered:
        """See ``Host``."""
        self._service.lifetime.raise_if_stopped()
        try:
            setup = await asyncio.to_thread(accepted_setup, self._own, call)
            self._serve_instead(setup, call.text)
        except VflError as error:
            self._service.lifetime.refused(call.run, error)
            raise
        return m.Offered(party=setup.name)

    def _serve_instead(self, setup: PartySetup, text: str) -> None:
        """Serve another job, if no run is going. Does not wait: no run may begin meanwhile."""
        before, offered = self._service, job_id(setup.job, setup.federation)
        if before.run or before.lifetime.outcome.done():
            raise busy()
        if offered == self._job_id:
            return
        own_job = offered == job_id(self._own.job, self._own.federation)
        self._kept.write("" if own_job else text)
        self._shared.router.remove(self._job_id)
        self._setup = self._own if own_job else setup
        before.close()
        self._trail.change_terms(self._terms)
        self._service = self._open_service()
        before.lifetime.end(None)
        self._log_accepted("accepted the job that the coordinator offers")

    def _log_accepted(self, what: str) -> None:
        changed = differing(self._own.job, self._setup.job).items()
        differs = ", ".join(f"{key} = {as_text(offered)}" for key, (_, offered) in changed)
        _log.info(what, job=self._setup.job.name, differs=differs or "nothing: it is that of job.toml")

    @property
    def digests(self) -> tuple[str, str]:
        """Of the party's file, and of the job that is served."""
        return job_digest(self._own.job, self._own.federation), self._service.digest

    @property
    def activity(self) -> m.Activity:
        """What this party is doing now for the job."""
        return self._service.activity

    # --- runs ---

    async def serve(self) -> VflError | None:
        """Serve until a run has ended, or with ``keep_serving`` until the process stops; return the error, if any."""
        structlog.contextvars.bind_contextvars(**self._named)
        while True:
            service = self._service
            error = await self._outcome(service)
            if service is not self._service:
                continue  # it made place for that of an offered job
            if not self._keep_serving or self._stopping.done():
                return error
            if error is not None:
                _log.error("the run failed", job=self._setup.job.name, code=error.code, reason=str(error))
            await asyncio.sleep(_LAST_ANSWER_SECONDS)  # the reply to the call that ended the run is in transit
            self.close()
            self._shared.trails.remove(self._trail)
            self._shared.inbox.discard_run(service.run)
            self._trail = self._open_trail()
            self._service = self._open_service()
            self._reopened.set()
            self._reopened = asyncio.Event()
            _log.info("waiting for the next run", job=self._setup.job.name)

    async def _outcome(self, service: PartyService) -> VflError | None:
        lifetime = service.lifetime

        async def stop() -> None:
            if await asyncio.shield(self._stopping) is StopReason.PROCESS_ENDING:
                lifetime.go_away()
            else:
                lifetime.stop()

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
        error = outcome.result() if ended else JobAborted("the process was stopped")
        with structlog.contextvars.bound_contextvars(**self._named):
            try:
                self._trail.close(error)
            finally:
                self._record.close(error)

    @property
    def _named(self) -> dict[str, str]:
        return self._shared.router.named_in_logs(self._setup.job.name)
