"""The coordinator: leads every party through one run, and back to a checkpoint after an interruption.

It holds no key and sees no tensor, id or label, only control messages and the metrics that the active party publishes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial

from vfl import messages as m
from vfl.configuration.federation import FederationConfig
from vfl.coordinator.ending import abort_all, release_all
from vfl.coordinator.heartbeats import HeartbeatMonitor
from vfl.coordinator.interruption import Interruption
from vfl.coordinator.offering import offered_and_prepared
from vfl.coordinator.parties import PartyClients, watched
from vfl.coordinator.replies import CheckedControl
from vfl.coordinator.training import Training
from vfl.errors import InternalError, JobAborted, ProtocolError, VflError
from vfl.ids import AttemptId
from vfl.job.callbacks import Callbacks, Interrupted, Ready
from vfl.job.config import JobConfig
from vfl.job.digests import job_digest, job_id
from vfl.job.schedule import Schedule
from vfl.run_records.journal import RunJournal, failed_at_checkpoint
from vfl.run_records.result import RunResult
from vfl.run_records.store import CommittedCheckpoint
from vfl.runtime.logs import get_logger
from vfl.transport.channels import ControlChannel
from vfl.version import PROTOCOL_VERSION

_log = get_logger("vfl.coordinator")

LAST_CONNECT_SECONDS = 1.0
"""For the last attempt at a run whose time is up: parties that are there need a moment to answer."""


def run_name(job: JobConfig, run_id: str) -> str:
    """Name of one run of a job."""
    return f"{job.name}-{run_id}"


class Coordinator:
    """Runs one job at the connected parties.

    Args:
        job: what to train.
        federation: the parties to train it with.
        clients: a control connection to every party, in the order of the federation.
        journal: records the progress of the run.
        callbacks: notified of progress.
    """

    def __init__(
        self,
        job: JobConfig,
        federation: FederationConfig,
        clients: Mapping[str, ControlChannel],
        journal: RunJournal,
        callbacks: Callbacks,
    ) -> None:
        self._job = job
        self._federation = federation
        checked = {name: CheckedControl(client, name, job, federation) for name, client in clients.items()}
        self._parties = PartyClients(checked, federation.active.name)
        self._journal = journal
        self._callbacks = callbacks
        self._attempt = AttemptId(job_id(job, federation), journal.outcome.run, journal.attempt)
        self._doing = "connection to the parties"
        self._training: Training | None = None
        self._furthest_step = 0
        self._connected = False
        self._interruption: Interruption | None = None

    async def run(self) -> RunResult:
        """Run the job to completion, through interruptions. Errors that stop it are reported to all reachable parties.

        Raises:
            VflError: what stopped it.
            asyncio.CancelledError: the operator stopped it; the parties are informed before this is raised.
        """
        return await self._reported_to_all(self._run())

    async def count_common_ids(self) -> RunResult:
        """Only count the rows that the parties have in common; nobody learns which rows they are.

        Raises:
            VflError: what stopped it.
            asyncio.CancelledError: the operator stopped it; the parties are informed before this is raised.
        """
        return await self._reported_to_all(self._count_common_ids())

    async def _run(self) -> None:
        while not self._journal.saved:
            try:
                await self._attempt_to(self._train_to_end)
            except VflError as error:
                await self._wait_after(error)
        await self._release()

    async def _count_common_ids(self) -> None:
        await self._attempt_to(self._count)
        await self._release()

    async def _reported_to_all(self, work: Coroutine[None, None, None]) -> RunResult:
        try:
            await work
        except VflError as error:
            await self._abort(error)
            raise
        except asyncio.CancelledError:
            stopped = JobAborted(f"stopped by the operator of the coordinator during {self.where}")
            await asyncio.shield(self._abort(stopped))
            raise
        except Exception as error:
            internal = InternalError(f"an internal error of the coordinator during {self.where}")
            _log.error("failed", error=internal.summary, code=internal.code, exc_info=error)
            await self._abort(internal)
            raise internal from error
        return self._journal.outcome

    @property
    def where(self) -> str:
        """What the run is doing, in words."""
        return self._training.where if self._training else self._doing

    # --- attempts ---

    async def _attempt_to(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Make one attempt at the remaining work; it is abandoned as soon as a party is gone."""
        self._training = None
        await self._connect()
        monitor = HeartbeatMonitor(self._parties, self._attempt, self._job.timeouts, self._callbacks)
        await watched(work(), monitor.watch())

    async def _wait_after(self, error: VflError) -> None:
        """Allow time for recovery from an interruption; raise the error if another attempt cannot help."""
        self._journal.check_own()
        if not self._connected:
            raise error
        if self._interruption is None:
            self._interruption = Interruption(error, self.where, self._job.timeouts.reconnect)
        self._journal.note("interrupted", error.summary, where=self.where, attempt=self._attempt.number)
        self._callbacks.on_interruption(Interrupted(error.summary, self.where))
        pause = self._interruption.failed_again(error, self._journal.last_step)
        self._callbacks.event(
            "interrupted",
            reason=error.summary,
            where=self.where,
            gives_up_in_seconds=round(self._interruption.seconds_left),
        )
        await asyncio.sleep(pause)

    def _step_done(self, step: int) -> None:
        """Record a completed step. An interruption is over once the run is past its furthest step."""
        if self._interruption and step > self._furthest_step:
            recovery, self._interruption = self._interruption.recovery(), None
            self._journal.outcome.recoveries.append(recovery)
            lost, seconds = recovery.steps_lost, round(recovery.seconds, 1)
            self._journal.note("recovered", recovery.reason, step=step, steps_lost=lost, seconds=seconds)
            self._callbacks.event("recovered", steps_lost=lost, seconds=seconds)
        self._furthest_step = max(self._furthest_step, step)

    async def _count(self) -> None:
        await self._prepare()
        self._check_aligned(await self._align(count_only=True))
        await self._finish()

    async def _train_to_end(self) -> None:
        prepared = await self._prepare()
        if self._interruption is not None:
            self._interruption.all_are_there()
        started = time.perf_counter()
        done = await self._restore(prepared)
        schedule = self._check_aligned(await self._align(count_only=False))
        self._doing = "weight initialization"
        begin = m.Begin(*self._attempt)
        await self._parties.all(lambda client: client.begin(begin))
        outcome = self._journal.outcome
        outcome.seconds_setup = outcome.seconds_setup or time.perf_counter() - started
        self._callbacks.on_ready(
            Ready(outcome.rows, outcome.train_rows, schedule.epoch_steps, self._job.model.trainable, outcome.steps)
        )
        self._training = Training(
            self._job, self._parties, self._attempt, self._journal, self._callbacks, self._step_done
        )
        await self._training.run(schedule, done)
        self._doing, self._training = "saving", None
        await self._finish()

    async def _connect(self) -> None:
        self._attempt = self._attempt._replace(number=self._journal.next_attempt())
        self._doing = "connection to the parties"
        limit = self._job.timeouts.connect
        if self._interruption:
            limit = max(self._interruption.seconds_left, LAST_CONNECT_SECONDS)
        self._callbacks.event("waiting for the parties", parties=list(self._parties), seconds=round(limit))
        await self._parties.all(lambda client: client.wait_ready(limit))
        self._connected = True

    async def _prepare(self) -> dict[str, m.Prepared]:
        self._doing = "preparation"
        digest = job_digest(self._job, self._federation)
        prepare = m.Prepare(*self._attempt, digest, PROTOCOL_VERSION)
        prepared = await self._parties.all(lambda client: offered_and_prepared(client, prepare, self._job))
        outcome = self._journal.outcome
        outcome.party_rows = {party: reply.rows for party, reply in prepared.items()}
        outcome.rows_without_id = {party: reply.dropped for party, reply in prepared.items()}
        self._callbacks.event("tables", rows=outcome.party_rows, without_id=outcome.rows_without_id)
        return prepared

    async def _restore(self, prepared: Mapping[str, m.Prepared]) -> int:
        """Have all parties restore the newest checkpoint that all have intact; return its step, or 0 if none."""
        self._doing = "checkpoint restoration"
        for checkpoint in self._journal.common_checkpoints({name: p.checkpoints for name, p in prepared.items()}):
            # Wait for all: a party asked for another checkpoint while still reading this one could end up with either.
            if errors := await self._parties.failures(partial(self._restore_one, checkpoint)):
                for error in errors:
                    if not failed_at_checkpoint(error):
                        raise error
                    self._journal.note("checkpoint damaged", error.summary, step=checkpoint.step)
                    self._callbacks.event("a checkpoint cannot be used", step=checkpoint.step, reason=error.summary)
                continue
            self._lost(self._journal.go_back(checkpoint))
            self._callbacks.event("resuming from a checkpoint", step=checkpoint.step, attempt=self._attempt.number)
            return checkpoint.step
        self._lost(self._journal.begin_anew())
        return 0

    async def _restore_one(self, checkpoint: CommittedCheckpoint, name: str, client: ControlChannel) -> m.Restored:
        call = m.Restore(*self._attempt, checkpoint.parties[name])
        return await client.restore(call)

    def _lost(self, steps: int) -> None:
        if self._interruption is not None:
            self._interruption.steps_lost = max(self._interruption.steps_lost, steps)

    async def _align(self, *, count_only: bool) -> dict[str, m.Aligned]:
        self._doing = "alignment"
        started = time.perf_counter()
        align = m.Align(*self._attempt, count_only)
        aligned = await self._parties.all(lambda client: client.align(align, self._job.timeouts.alignment))
        outcome = self._journal.outcome
        outcome.seconds_alignment = outcome.seconds_alignment or time.perf_counter() - started
        return aligned

    def _check_aligned(self, aligned: Mapping[str, m.Aligned]) -> Schedule:
        """Check the counts; return the work to do."""
        counts = {name: (a.rows, a.train_rows, a.validation_rows, a.test_rows) for name, a in aligned.items()}
        if len(set(counts.values())) != 1:
            stated = "; ".join(f"{name} {', '.join(map(str, numbers))}" for name, numbers in counts.items())
            raise ProtocolError(
                f"the parties report different numbers of aligned rows (in all, and of each split): {stated}",
                remedy="check that every party runs the same version of vfl; if they do, ask whose numbers differ why",
            )
        first = next(iter(aligned.values()))
        self._journal.outcome.rows, self._journal.outcome.train_rows = first.rows, first.train_rows
        return Schedule(self._job, first.split_rows)

    # --- finish, release, abort ---

    async def _finish(self) -> None:
        """Have all parties save their parts; none is released until all have saved."""
        finish = m.Finish(*self._attempt)
        finished = await self._parties.all(lambda client: client.finish(finish))
        outcome = self._journal.outcome
        outcome.peak_memory = {name: reply.peak_memory_bytes for name, reply in finished.items()}
        outcome.certified_lipschitz = max(reply.certified_lipschitz for reply in finished.values())
        self._journal.save()

    async def _release(self) -> None:
        seconds = self._job.timeouts.reconnect
        await release_all(self._parties, self._federation, self._attempt, seconds, self._callbacks)
        self._journal.finish()
        self._callbacks.event("finished", run=self._attempt.run)

    async def _abort(self, error: VflError) -> None:
        if self._journal.superseded:  # the run continues under another coordinator
            return
        self._callbacks.event("stopping all parties", reason=error.summary, where=self.where)
        coordinator = self._federation.coordinator
        await abort_all(self._parties, coordinator, self._attempt, error, connected=self._connected)
