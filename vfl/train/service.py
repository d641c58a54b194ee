"""A party's answer to the coordinator: one job at a time, every call idempotent, every failure told to both sides."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, TypeVar

import structlog

from vfl import messages as m
from vfl.errors import InternalError, JobAborted, PeerUnreachable, PolicyRefusal, ProtocolError, VflError
from vfl.he.pool import Pools
from vfl.ids import Role, StepKey
from vfl.train.audit import AuditTrail
from vfl.train.idle import IdleWork
from vfl.train.job import check_digest, job_digest
from vfl.train.mail import Mail
from vfl.train.memory import peak_memory_bytes
from vfl.train.party_config import PartySetup, check_acceptable
from vfl.train.passive import PassiveParty
from vfl.train.roles import SETUP_STEP, JobState, PartyRole
from vfl.train.saving import make_output
from vfl.transport.client import PeerClient
from vfl.transport.credentials import Credentials
from vfl.transport.inbox import Inbox
from vfl.transport.limits import MEBIBYTE
from vfl.transport.traffic import TrafficMeter
from vfl.version import PROTOCOL_VERSION

_log = structlog.get_logger("vfl.party")

Reply = TypeVar("Reply")

REMEMBERED_CALLS = 16
"""Replies kept for repeated calls; the coordinator repeats at most its latest."""


class _Job:
    """The job that this party is working on.

    Attributes:
        accepted_role: set when the job has been accepted.
        where: what was last asked for, in words.
        trained: whether there is something to save.
        error: the first error that happened here.
    """

    def __init__(self, name: str, attempt: int) -> None:
        self.name = name
        self.attempt = attempt
        self.accepted_role: PartyRole | None = None
        self.where = "prepare"
        self.trained = False
        self.error: VflError | None = None
        self.calls: dict[Hashable, asyncio.Task[Any]] = {}
        self.last_call = time.monotonic()

    @property
    def role(self) -> PartyRole:
        if self.accepted_role is None:
            raise _not_prepared()
        return self.accepted_role

    @property
    def busy(self) -> bool:
        return any(not task.done() for task in self.calls.values())

    @property
    def setup_key(self) -> StepKey:
        return StepKey(self.name, SETUP_STEP, self.attempt)


class PartyService:
    """Implements ``vfl.transport.server.ControlHandler`` for one party.

    Args:
        setup: the party's validated files.
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        traffic: counts bytes, shared with server and clients.
        trail: the audit log; it begins when a job comes.
        credentials: the party's, shared with server and clients; None only with ``insecure-loopback``.
        keep_serving: wait for a job for ever; an abort of a job that never reached this party is nothing to it.

    Attributes:
        outcome: set when a job ends here: None when it finished, else the error that ended it.
    """

    def __init__(
        self,
        setup: PartySetup,
        clients: Mapping[str, PeerClient],
        inbox: Inbox,
        traffic: TrafficMeter,
        trail: AuditTrail,
        credentials: Credentials | None,
        *,
        keep_serving: bool = False,
    ) -> None:
        self._setup = setup
        self._clients = clients
        self._inbox = inbox
        self._traffic = traffic
        self._trail = trail
        self._credentials = credentials
        self._keep_serving = keep_serving
        self._digest = job_digest(setup.job, setup.federation)
        self._job: _Job | None = None
        self._idle: IdleWork | None = None
        self._started = time.monotonic()
        self._coordinator_knows = asyncio.Event()
        self.outcome: asyncio.Future[VflError | None] = asyncio.get_running_loop().create_future()

    # --- control calls ---

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Check that the job is the one agreed on and allowed here, and load the table."""
        if call.protocol_version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the coordinator speaks protocol {call.protocol_version}, this party {PROTOCOL_VERSION}",
                remedy="install the same version of vfl everywhere",
            )
        if self._job is None:
            self._trail.open(call.job, call.attempt)
            self._job = _Job(call.job, call.attempt)
            self._inbox.open_job(call.job, call.attempt, set(self._setup.peers))
        elif (self._job.name, self._job.attempt) != (call.job, call.attempt):
            raise PolicyRefusal(
                "this party is busy with another job", remedy="wait until that job is over, then start again"
            )
        return await self._once(call.job, "prepare", "prepare", lambda job: self._prepare(job, call))

    async def _prepare(self, job: _Job, call: m.Prepare) -> m.Prepared:
        check_digest(self._digest, call.digest)
        check_acceptable(self._setup)
        await asyncio.to_thread(make_output, self._setup.config.output)
        job.accepted_role = await asyncio.to_thread(self._make_role)
        _log.info("job accepted", job=call.job, policy=self._setup.config.policy.model_dump())
        loaded = await job.role.load()
        _log.info("table loaded", rows=loaded.rows, rows_without_id=loaded.dropped)
        role = Role(self._setup.entry.role)
        return m.Prepared(party=self._setup.name, role=role, rows=loaded.rows, dropped=loaded.dropped)

    async def align(self, call: m.Align) -> m.Aligned:
        """Find the common ids, exchange keys, build the models; or only count the common ids."""

        async def work(job: _Job) -> m.Aligned:
            aligned = await job.role.align(job.setup_key, count_only=call.count_only)
            _log.info("counted the common ids" if call.count_only else "aligned", rows=aligned.rows)
            job.trained = not call.count_only
            return aligned

        return await self._once(call.job, "align", "alignment", work)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

        async def work(job: _Job) -> m.Begun:
            await job.role.begin(job.setup_key, frozenset(call.gradient_receivers))
            _log.info("training begins", gradient_receivers=list(call.gradient_receivers))
            return m.Begun(party=self._setup.name)

        return await self._once(call.job, "begin", "the initial weights", work)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one batch."""
        where = f"{call.phase} of step {call.key.step}"
        self._inbox.reached(call.key.job, call.key.step)
        return await self._once(call.key.job, (call.key, call.phase), where, lambda job: self._run_phase(job, call))

    async def _run_phase(self, job: _Job, call: m.PhaseCall) -> m.PhaseReport:
        before, started = self._traffic.total(job.name), time.perf_counter()
        metrics = await job.role.run_phase(call.key, call.phase, call.batch)
        after = self._traffic.total(job.name)
        return m.PhaseReport(
            seconds=time.perf_counter() - started,
            bytes_sent=after.sent - before.sent,
            bytes_received=after.received - before.received,
            metrics=metrics,
        )

    async def score(self, call: m.Score) -> m.Scored:
        """Metrics of a scored split."""

        async def work(job: _Job) -> m.Scored:
            metrics = await job.role.score()
            _log.info("scored", split=call.split, epoch=call.epoch, **metrics)
            return m.Scored(metrics=metrics)

        return await self._once(call.job, ("score", call.split, call.epoch), "scoring", work)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save this party's part of the model."""
        return await self._once(call.job, "finish", "saving", self._finish)

    async def _finish(self, job: _Job) -> m.Finished:
        lipschitz = await job.role.save(job.name) if job.trained else 0.0
        total = self._traffic.total(job.name)
        saved = str(self._setup.config.output / job.name) if job.trained else "nothing, the common ids were counted"
        _log.info("job finished", job=job.name, saved=saved)
        asyncio.get_running_loop().call_soon(self._end, None)
        return m.Finished(
            party=self._setup.name,
            bytes_sent=total.sent,
            bytes_received=total.received,
            peak_memory_bytes=peak_memory_bytes(),
            certified_lipschitz=lipschitz,
        )

    async def abort(self, call: m.Abort) -> None:
        """Stop the job and say why. A job that fails before it reached this party ends its wait, too."""
        job = self._job
        if (job is None and self._keep_serving) or (job is not None and job.name != call.job):
            return
        self._coordinator_knows.set()
        where = job.where if job else "before the job began"
        _log.error("job stopped", origin=call.origin, code=call.code, reason=call.reason, where=where)
        stopped = JobAborted(f"the job was stopped: {call.reason}")
        self._end((job.error if job else None) or stopped)

    # --- the life of the process ---

    @property
    def activity(self) -> m.Activity:
        """What this party is doing now."""
        if self.outcome.done():
            return m.Activity.STOPPED
        return m.Activity.WAITING if self._job is None else m.Activity.BUSY

    def stop(self, reason: str) -> None:
        """Stop at the operator's wish; the coordinator learns it from the call in progress, or by the next."""
        where = f" during {self._job.where}" if self._job else " before a job began"
        error = JobAborted(f"{reason}{where}")
        _log.warning("stopping", reason=error.summary)
        self._end(error)

    async def last_words(self, seconds: float) -> None:
        """Wait at most so long until the coordinator has heard why this party stops, by a call it makes."""
        if self._job is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._coordinator_knows.wait(), seconds)

    async def watch(self) -> None:
        """End the job when no coordinator calls for longer than the job's deadlines allow."""
        deadlines = self._setup.job.deadlines
        while not self.outcome.done():
            await asyncio.sleep(0.5)
            job = self._job
            if job is None and self._keep_serving:
                continue
            silent_since = self._started if job is None else job.last_call
            # The coordinator may start this much later than this party, and then wait as long for the others.
            limit = 2 * deadlines.connect if job is None else deadlines.phase
            if not (job and job.busy) and time.monotonic() - silent_since > limit:
                where = "before a job began" if job is None else f"after {job.where}"
                error = PeerUnreachable(
                    f"the coordinator did not call within {limit:g} s {where}",
                    remedy="start the coordinator with 'vfl run', or look into its log for why it stopped",
                )
                _log.error("coordinator is silent", seconds=limit, where=where)
                self._coordinator_knows.set()  # or is not there to be told
                self._end((job.error if job else None) or error)

    def _end(self, error: VflError | None) -> None:
        if self.outcome.done():
            return
        if self._job is not None:
            self._inbox.fail(self._job.name, error or JobAborted("the job is over at this party"))
        self.close()
        self.outcome.set_result(error)

    def close(self) -> None:
        """Leave nothing running. The end of a job does it by itself; a cancelled process must ask for it."""
        if self._idle is not None:
            self._idle.close()

    def _make_role(self) -> PartyRole:
        setup = self._setup
        encrypted = setup.job.interaction.protocol == "encrypted"
        timeout = setup.job.deadlines.phase
        pools = Pools(setup.config.pool_memory_mb * MEBIBYTE)
        self._idle = IdleWork(pools)
        mail = Mail(setup.name, self._clients, self._inbox, self._idle, timeout, encrypted=encrypted)
        state = JobState(setup, mail, pools, self._credentials)
        if setup.entry.role is Role.PASSIVE:
            return PassiveParty(state)
        from vfl.train.active import ActiveParty  # the metrics it needs take seconds to import, and much memory

        return ActiveParty(state)

    async def _once(self, name: str, key: Hashable, where: str, work: Callable[[_Job], Awaitable[Reply]]) -> Reply:
        """Do the work of a call of this job once; a repeated call gets the same reply or the same error."""
        job = self._job
        if job is None or job.name != name:
            raise _not_prepared()
        self._raise_if_stopped()
        job.last_call = time.monotonic()
        if key not in job.calls:
            while len(job.calls) >= REMEMBERED_CALLS:
                job.calls.pop(next(iter(job.calls)))
            job.where = where
            job.calls[key] = asyncio.ensure_future(self._guarded(job, work))
            job.calls[key].add_done_callback(_mark_retrieved)
        try:
            # A caller that gives up must not stop work that a repeated call will ask for again.
            reply: Reply = await asyncio.shield(job.calls[key])
            self._raise_if_stopped()
            return reply
        finally:
            job.last_call = time.monotonic()
            if self.outcome.done():
                self._coordinator_knows.set()

    def _raise_if_stopped(self) -> None:
        if self.outcome.done() and (error := self.outcome.result()) is not None:
            self._coordinator_knows.set()
            raise error

    async def _guarded(self, job: _Job, work: Callable[[_Job], Awaitable[Reply]]) -> Reply:
        try:
            return await work(job)
        except VflError as error:
            if not self.outcome.done():
                job.error = job.error or error
                _log.error("failed", where=job.where, error=str(error), code=error.code)
            raise
        except Exception as error:
            _log.exception("internal error", where=job.where)
            job.error = InternalError(
                f"an internal error stopped {job.where}", remedy="see this party's log; please report it"
            )
            raise job.error from error


def _mark_retrieved(task: asyncio.Task[Any]) -> None:
    """The coordinator may be gone and never collect the error, which is kept and logged without it."""
    if not task.cancelled():
        task.exception()


def _not_prepared() -> ProtocolError:
    return ProtocolError("a call came before the job was prepared", remedy="start the job again")
