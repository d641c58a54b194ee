"""A party's replies to the coordinator: one run at a time, every call idempotent, every failure reported to both sides.

A run that was interrupted at any point is prepared again under a higher attempt number and resumes from a checkpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from functools import partial
from typing import TypeVar

from vfl import messages as m
from vfl.audit.trail import AuditTrail
from vfl.checkpoints.store import CheckpointStore
from vfl.errors import JobAborted, VflError
from vfl.ids import Batch, Role, Split, StepKey
from vfl.job.callbacks import Callbacks, CheckpointDone, EvaluationDone, Interrupted
from vfl.job.digests import job_digest
from vfl.job.plan import Plan
from vfl.models.config import without_alone
from vfl.party.config import PartySetup
from vfl.party.service.attempt import ALIGN, PREPARE, Attempt, OfAttempt
from vfl.party.service.lifetime import Lifetime
from vfl.party.service.preparation import check_not_over, prepared_store
from vfl.party.service.refusals import busy, not_prepared, superseded
from vfl.party.service.role_factory import RoleFactory
from vfl.party.service.step_reports import ATTEMPT_BEGINS, SAVED, StepReports
from vfl.pki.credentials import Credentials
from vfl.runtime.background import start
from vfl.runtime.logs import get_logger
from vfl.runtime.memory import peak_memory_bytes
from vfl.transport.channels import PeerChannel
from vfl.transport.inbox import Inbox
from vfl.transport.wire.traffic import TrafficMeter

_log = get_logger("vfl.party")

Reply = TypeVar("Reply")


class PartyService:
    """Implements ``vfl.transport.channels.ControlHandler`` for one job of a party.

    Args:
        setup: the party's validated files.
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        traffic: counts bytes, shared with server and clients.
        trail: the audit log; opened when a run is prepared.
        credentials: the party's credentials, shared with server and clients; None only with ``insecure-loopback``.
        callbacks: notified of this party's part of a run.
        keep_serving: wait for a run indefinitely; an abort of a run that never reached this party is ignored.

    Attributes:
        digest: digest of the job and the federation, which the coordinator's must match.
        lifetime: decides when serving ends.
    """

    def __init__(
        self,
        setup: PartySetup,
        clients: Mapping[str, PeerChannel],
        inbox: Inbox,
        traffic: TrafficMeter,
        trail: AuditTrail,
        credentials: Credentials | None,
        callbacks: Callbacks | None = None,
        *,
        keep_serving: bool = False,
    ) -> None:
        self._setup = setup
        self._inbox = inbox
        self._traffic = traffic
        self._trail = trail
        self._callbacks = callbacks or Callbacks(())
        self._keep_serving = keep_serving
        self.digest = job_digest(setup.job, setup.federation)
        self._attempt: Attempt | None = None
        self._store: CheckpointStore | None = None
        self._roles = RoleFactory(setup, clients, inbox, credentials)
        self._steps = StepReports(self._callbacks, Plan(setup.job))
        self.lifetime = Lifetime(setup.job.timeouts, lambda: self._attempt, self._ended, keep_serving=keep_serving)

    @property
    def run(self) -> str:
        """Name of the run that this party works on; empty before the first."""
        return self._attempt.run if self._attempt else ""

    # --- control calls ---

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Check that the job is the agreed one and allowed here, and load the table."""
        self.lifetime.check(call, self.digest)
        self.lifetime.raise_if_stopped()
        if self._attempt is not None and self._attempt.run != call.run:
            raise busy()
        if self._attempt is None:
            check_not_over(self._trail, call.run)
            self._trail.open(call.run, call.attempt)
        if self._attempt is None or self._attempt.number < call.attempt:
            self._begin_attempt(call)
        return await self._once(call, "prepare", PREPARE, lambda attempt: self._prepare(attempt, call))

    def _begin_attempt(self, call: m.Prepare) -> None:
        interrupted, self._attempt = self._attempt, Attempt(call.run, call.attempt, self._attempt)
        self._steps = StepReports(self._callbacks, Plan(self._setup.job))
        if interrupted is not None:
            reason = {"reason": str(interrupted.error)} if interrupted.error else {}
            _log.warning("retrying the run", attempt=call.attempt, interrupted=interrupted.where, **reason)
            interrupted.end()
            self._callbacks.on_interruption(Interrupted("the coordinator began another attempt", interrupted.where))
        self._callbacks.event(ATTEMPT_BEGINS, run=call.run, attempt=call.attempt)
        self._inbox.open_run(call.run, call.attempt, set(self._setup.peers))

    async def _prepare(self, attempt: Attempt, call: m.Prepare) -> m.Prepared:
        self._store = await prepared_store(self._setup, attempt.run, self.digest)
        if attempt.number > 0:
            await self._roles.reach_peers()
        await asyncio.to_thread(self._roles.give_role, attempt)
        _log.info("job accepted", run=call.run, policy=self._setup.config.policy.model_dump())
        loaded = await attempt.role.load()
        _log.info("table loaded", rows=loaded.rows, rows_without_id=loaded.dropped)
        held = await asyncio.to_thread(self._store.held)
        return m.Prepared(self._setup.name, Role(self._setup.entry.role), loaded.rows, loaded.dropped, held)

    async def restore(self, call: m.Restore) -> m.Restored:
        """Restore a checkpoint to resume from."""

        async def work(attempt: Attempt) -> m.Restored:
            attempt.check_state_is_open()
            snapshot = await asyncio.to_thread(self._checkpoints.load, call.checkpoint)
            # The interruption may have occurred before this party received the commit.
            await asyncio.to_thread(self._checkpoints.commit, call.checkpoint)
            attempt.restore(snapshot, call.checkpoint)
            _log.info("resuming from a checkpoint", step=snapshot.step, attempt=attempt.number)
            return m.Restored(party=self._setup.name)

        return await self._once(call, ("restore", call.checkpoint), "checkpoint restoration", work)

    async def align(self, call: m.Align) -> m.Aligned:
        """Find the common ids, exchange keys, build the models; or only count the common ids."""

        async def work(attempt: Attempt) -> m.Aligned:
            aligned = await attempt.role.align(attempt.setup_key, count_only=call.count_only)
            _log.info("counted the common ids" if call.count_only else "aligned", rows=aligned.rows)
            if not call.count_only:
                attempt.follow(self._setup, aligned)
            return aligned

        return await self._once(call, ALIGN, "alignment", work)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""

        async def work(attempt: Attempt) -> m.Begun:
            await attempt.begin()
            self._inbox.reached(StepKey(attempt.run, attempt.restored_step, attempt.number))
            _log.info("training begins", trainable=list(self._setup.job.model.trainable))
            self._callbacks.on_ready(attempt.role.ready())
            return m.Begun(party=self._setup.name)

        return await self._once(call, "begin", "weight initialization", work)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Run one phase of one batch."""
        where = f"{call.phase} of step {call.key.step}"
        self._inbox.reached(call.key)
        this = call.key, call.phase, call.batch
        return await self._once(call.key, this, where, lambda attempt: self._run_phase(attempt, call))

    async def _run_phase(self, attempt: Attempt, call: m.PhaseCall) -> m.PhaseReport:
        before, started = self._traffic.total(attempt.run), time.perf_counter()
        metrics = await attempt.run_phase(call.key, call.phase, call.batch)
        after = self._traffic.total(attempt.run)
        sent, received = after.sent - before.sent, after.received - before.received
        report = m.PhaseReport(time.perf_counter() - started, sent, received, metrics)
        self._steps.phase_done(call, report, attempt.role.batch_rows(call.batch))
        return report

    async def score(self, call: m.Score) -> m.Scored:
        """Compute the metrics of a scored split."""

        async def work(attempt: Attempt) -> m.Scored:
            attempt.schedule.score(call.split, call.epoch)
            scored = await attempt.role.score(Batch(call.split, call.epoch, 0))
            if scored:  # a passive party has no metrics
                epoch = {} if call.split is Split.TEST else {"epoch": self._steps.number_of(call.epoch)}
                _log.info("scored", split=str(call.split), **epoch, **scored)
            self._callbacks.on_evaluation(EvaluationDone(call.split, call.epoch, without_alone(scored)[0]))
            return m.Scored(metrics=scored)

        return await self._once(call, ("score", call.split, call.epoch), "scoring", work)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save this party's part of the model."""
        self._steps.epoch_done()
        return await self._once(call, "finish", "saving", self._finish)

    async def _finish(self, attempt: Attempt) -> m.Finished:
        lipschitz = await attempt.save()
        total = self._traffic.total(attempt.run)
        saved = str(self._setup.config.output / attempt.run) if attempt.guard else "nothing: ids were only counted"
        self._callbacks.event(SAVED, where=saved)
        _log.info("run finished", run=attempt.run, saved=saved, audit_log=str(self._trail.path))
        return m.Finished(self._setup.name, total.sent, total.received, peak_memory_bytes(), lipschitz)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Write a checkpoint of the state."""

        async def work(attempt: Attempt) -> m.Checkpointed:
            attempt.schedule.checkpoint(call.key.step)
            snapshot = attempt.role.snapshot(call.key.step)
            write = partial(self._checkpoints.write, snapshot, attempt.number, durable=call.durable)
            return m.Checkpointed(checkpoint=await asyncio.to_thread(write))

        key = ("checkpoint", call.key.step, call.durable)
        return await self._once(call.key, key, f"the checkpoint of step {call.key.step}", work)

    async def commit(self, call: m.Commit) -> m.Committed:
        """Commit a checkpoint that all parties have written."""

        async def work(_: Attempt) -> m.Committed:
            await asyncio.to_thread(self._checkpoints.commit, call.checkpoint)
            self._callbacks.on_checkpoint(CheckpointDone(call.checkpoint.step))
            return m.Committed(party=self._setup.name)

        where = f"committing the checkpoint of step {call.checkpoint.step}"
        return await self._once(call, ("commit", call.checkpoint), where, work)

    async def heartbeat(self, call: m.Heartbeat) -> m.Alive:
        """Report what this party is doing, even while it is busy."""
        self.lifetime.raise_if_stopped()
        if self._attempt is None:
            raise not_prepared()
        self._attempt.check_current(call.run, call.attempt)
        self.lifetime.called()
        return self._attempt.alive(call, self._setup.name)

    async def release(self, call: m.Release) -> m.Released:
        """End the run, which this party has saved. One that was restarted since then knows that from its audit log."""
        if self._attempt is not None:
            self._attempt.check_current(call.run, call.attempt)
            self._attempt.check_saved()
        elif not self._trail.past(call.run).saved:
            raise not_prepared()
        if self._attempt is not None or not self._keep_serving:
            start(self.lifetime.end_released(), failed=self.lifetime.failed)
        return m.Released(party=self._setup.name)

    async def abort(self, call: m.Abort) -> None:
        """Stop the run and record why. A run that failed before reaching this party ends the party's wait, too."""
        attempt = self._attempt
        if (attempt is None and self._keep_serving) or (attempt is not None and attempt.run != call.run):
            return
        if attempt is not None and call.attempt < attempt.number:
            raise superseded()
        self.lifetime.aborted(call)

    @property
    def activity(self) -> m.Activity:
        """What this party is doing now."""
        if self.lifetime.outcome.done():
            return m.Activity.STOPPED
        return m.Activity.WAITING if self._attempt is None else m.Activity.BUSY

    def _ended(self, error: VflError | None) -> None:
        if self._attempt is not None:
            self._inbox.fail(self._attempt.run, error or JobAborted("the run is over at this party"))
        self.close()

    def close(self) -> None:
        """Stop all work. The end of a run calls this; a cancelled process must call it explicitly."""
        self._roles.close()

    @property
    def _checkpoints(self) -> CheckpointStore:
        if self._store is None:
            raise not_prepared()
        return self._store

    async def _once(
        self, call: OfAttempt, key: Hashable, where: str, work: Callable[[Attempt], Awaitable[Reply]]
    ) -> Reply:
        """Do the work of a call to the attempt once; a repeated call gets the same reply or error."""
        self.lifetime.raise_if_stopped()
        attempt = self._attempt
        if attempt is None:
            raise not_prepared()
        attempt.check_current(call.run, call.attempt)
        self.lifetime.called()
        try:
            reply = await attempt.once(key, where, work)
            self.lifetime.raise_if_stopped()
            return reply
        finally:
            self.lifetime.called()
