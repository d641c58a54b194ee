"""The coordinator: sequences prepare, align, begin, training steps, evaluation and finish over every party.

It holds no key and sees no tensor, id or label: only control messages and the metrics that the active party publishes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from vfl import messages as m
from vfl.data.split import epoch_batches
from vfl.errors import InternalError, JobAborted, PeerUnreachable, ProtocolError, VflError
from vfl.ids import INFERENCE_PHASES, TRAINING_PHASES, Batch, Phase, Split, StepKey
from vfl.train.job import JobConfig, job_digest
from vfl.train.observer import Observer
from vfl.train.roles import SETUP_STEP
from vfl.transport.client import ControlClient
from vfl.transport.config import FederationConfig
from vfl.version import PROTOCOL_VERSION

Reply = TypeVar("Reply")

ABORT_SECONDS = 5.0
"""How long to try telling a party that the job is over."""

ABORT_RETRY_SECONDS = 0.2

FIRST_ATTEMPT = 0


@dataclass
class Outcome:
    """What a finished job has to show. Times in seconds, traffic in bytes."""

    job: str
    party_rows: dict[str, int] = field(default_factory=dict)
    rows_without_id: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    train_rows: int = 0
    steps: int = 0
    trained_samples: int = 0
    seconds_setup: float = 0.0
    seconds_alignment: float = 0.0
    seconds_training: float = 0.0
    seconds_evaluation: float = 0.0
    training_bytes_sent: dict[str, int] = field(default_factory=dict)
    history: list[dict[str, float]] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    certified_lipschitz: float = 0.0
    peak_memory: dict[str, int] = field(default_factory=dict)


def job_name(job: JobConfig, run_id: str) -> str:
    """Name of one run of a job."""
    return f"{job.name}-{run_id}"


class Coordinator:
    """Runs one job over connected parties.

    Args:
        job: what is trained.
        federation: over whom.
        clients: a control connection to every party, in the order of the federation.
        run_id: makes this run's job name unique.
        observer: is told about progress.
    """

    def __init__(
        self,
        job: JobConfig,
        federation: FederationConfig,
        clients: Mapping[str, ControlClient],
        run_id: str,
        observer: Observer,
    ) -> None:
        self._job = job
        self._federation = federation
        self._clients = clients
        self._observer = observer
        self._attempt = FIRST_ATTEMPT
        self._step = SETUP_STEP
        self._where = "connecting to the parties"
        self._connected = False
        self.outcome = Outcome(job=job_name(job, run_id))

    async def run(self) -> Outcome:
        """Run the job to its end. Whatever stops it, every party that can be reached is told why.

        Raises:
            VflError: what stopped it.
            asyncio.CancelledError: the operator stopped it; parties are told before this is raised.
        """
        return await self._told_to_all(self._run())

    async def count_common_ids(self) -> Outcome:
        """How many rows the parties have in common, and nothing else: nobody learns which.

        Raises:
            VflError: what stopped it.
            asyncio.CancelledError: the operator stopped it; parties are told before this is raised.
        """
        return await self._told_to_all(self._count_common_ids())

    async def _run(self) -> None:
        await self._setup()
        await self._train()
        await self._evaluate(Split.TEST, self._job.training.epochs)
        await self._finish()

    async def _count_common_ids(self) -> None:
        aligned = await self._align(count_only=True)
        self._check_aligned(aligned)
        await self._finish()

    async def _told_to_all(self, work: Coroutine[Any, Any, None]) -> Outcome:
        try:
            await work
        except VflError as error:
            await self._abort(error)
            raise
        except asyncio.CancelledError:
            stopped = JobAborted(f"stopped by the operator of the coordinator during {self._where}")
            await asyncio.shield(self._abort(stopped))
            raise
        except Exception:
            await self._abort(InternalError(f"an internal error of the coordinator during {self._where}"))
            raise
        return self.outcome

    @property
    def where(self) -> str:
        """What the job is doing, in words."""
        return self._where

    # --- prepare, align, begin ---

    async def _setup(self) -> None:
        started = time.perf_counter()
        name, deadlines = self.outcome.job, self._job.deadlines
        receivers = self._check_aligned(await self._align(count_only=False))
        self._where = "the initial weights"
        begin = m.Begin(name, self._attempt, receivers)
        await self._all(lambda client: client.begin(begin, deadlines.phase))
        self.outcome.seconds_setup = time.perf_counter() - started
        self._observer.ready(self.outcome.rows, self.outcome.train_rows, self._epoch_steps, receivers)

    async def _align(self, *, count_only: bool) -> dict[str, m.Aligned]:
        await self._connect()
        name, deadlines = self.outcome.job, self._job.deadlines
        prepare = m.Prepare(name, self._attempt, job_digest(self._job, self._federation), PROTOCOL_VERSION)
        self._where = "prepare"
        prepared = await self._all(lambda client: client.prepare(prepare, deadlines.phase))
        self.outcome.party_rows = {party: reply.rows for party, reply in prepared.items()}
        self.outcome.rows_without_id = {party: reply.dropped for party, reply in prepared.items()}
        self._observer.event("tables", rows=self.outcome.party_rows, without_id=self.outcome.rows_without_id)
        self._where = "alignment"
        started = time.perf_counter()
        align = m.Align(name, self._attempt, count_only)
        aligned = await self._all(lambda client: client.align(align, deadlines.alignment))
        self.outcome.seconds_alignment = time.perf_counter() - started
        return aligned

    async def _connect(self) -> None:
        limit = self._job.deadlines.connect
        self._observer.event("waiting for the parties", parties=list(self._clients), seconds=limit)
        await self._all(lambda client: client.wait_ready(limit))
        self._connected = True

    def _check_aligned(self, aligned: Mapping[str, m.Aligned]) -> tuple[str, ...]:
        """Keep the counts; return the passive parties whose bottoms train."""
        counts = {(a.rows, a.train_rows, a.validation_rows, a.test_rows) for a in aligned.values()}
        if len(counts) != 1:
            raise ProtocolError("the parties report different numbers of aligned rows", remedy="start the job again")
        first = next(iter(aligned.values()))
        self.outcome.rows, self.outcome.train_rows = first.rows, first.train_rows
        self._split_rows = {
            Split.TRAIN: first.train_rows,
            Split.VALIDATION: first.validation_rows,
            Split.TEST: first.test_rows,
        }
        passive = (party.name for party in self._federation.passives)
        return tuple(name for name in passive if aligned[name].trainable)

    # --- training ---

    async def _train(self) -> None:
        training = self._job.training
        for epoch in range(training.epochs):
            started = time.perf_counter()
            losses = [await self._train_batch(batch, rows) for batch, rows in self._batches(Split.TRAIN, epoch)]
            self.outcome.seconds_training += time.perf_counter() - started
            record = {"epoch": float(epoch + 1), "loss": float(np.mean(losses))}
            if (epoch + 1) % training.evaluate_every == 0 or epoch + 1 == training.epochs:
                record |= await self._evaluate(Split.VALIDATION, epoch)
            self.outcome.history.append(record)
            self._observer.epoch_done(epoch, training.epochs, record)

    async def _train_batch(self, batch: Batch, rows: int) -> float:
        started = time.perf_counter()
        reports = await self._step_through(TRAINING_PHASES, batch)
        loss = next(report.metrics["loss"] for report in reports if "loss" in report.metrics)
        self.outcome.steps += 1
        self.outcome.trained_samples += rows
        sent = sum(report.bytes_sent for report in reports)
        self._observer.step_done(batch, rows, loss, time.perf_counter() - started, sent)
        return loss

    async def _step_through(self, phases: tuple[Phase, ...], batch: Batch) -> list[m.PhaseReport]:
        self._step += 1
        key = StepKey(self.outcome.job, self._step, self._attempt)
        reports: list[m.PhaseReport] = []
        for phase in phases:
            self._where = f"{phase} of batch {batch.index + 1}, epoch {batch.epoch + 1} ({batch.split})"
            replies = await self._phase(m.PhaseCall(key, phase, batch))
            reports += replies.values()
            if batch.split is Split.TRAIN:
                for name, report in replies.items():
                    sent = self.outcome.training_bytes_sent
                    sent[name] = sent.get(name, 0) + report.bytes_sent
        return reports

    async def _phase(self, call: m.PhaseCall) -> dict[str, m.PhaseReport]:
        # The parties wait up to the deadline for each other's messages, so their error, which knows more, comes first.
        limit = 2 * self._job.deadlines.phase
        return await self._all(lambda client: client.run_phase(call, limit))

    def _batches(self, split: Split, epoch: int) -> list[tuple[Batch, int]]:
        """Batches of an epoch with their sizes, by the rule that the parties follow too."""
        training = self._job.training
        size = training.batch_size if split is Split.TRAIN else training.evaluation_batch_size
        rows = np.arange(self._split_rows[split], dtype=np.int64)
        plan = epoch_batches(rows, size, self._job.seed, epoch, shuffle=split is Split.TRAIN)
        return [(Batch(split, epoch, index), len(batch)) for index, batch in enumerate(plan)]

    @property
    def _epoch_steps(self) -> int:
        return len(self._batches(Split.TRAIN, 0))

    # --- evaluation, finish, abort ---

    async def _evaluate(self, split: Split, epoch: int) -> dict[str, float]:
        if not self._split_rows[split]:
            return {}
        started = time.perf_counter()
        for batch, _ in self._batches(split, epoch):
            await self._step_through(INFERENCE_PHASES, batch)
        self._where = f"scoring ({split})"
        score = m.Score(self.outcome.job, split, epoch)
        active = self._clients[self._federation.active.name]
        metrics = (await active.score(score, self._job.deadlines.phase)).metrics
        self.outcome.seconds_evaluation += time.perf_counter() - started
        if split is Split.TEST:
            self.outcome.test = metrics
            self._observer.tested(metrics)
        return {f"{split}_{name}": value for name, value in metrics.items()}

    async def _finish(self) -> None:
        self._where = "saving"
        finish = m.Finish(self.outcome.job)
        finished: dict[str, m.Finished] = {}
        # A party's process ends with its reply, and with it the way to the parties that are reached through it.
        for outbound in (True, False):
            names = [party.name for party in self._federation.parties if bool(party.via) == outbound]
            finished |= await self._all(lambda client: client.finish(finish, self._job.deadlines.phase), names)
        self.outcome.peak_memory = {name: reply.peak_memory_bytes for name, reply in finished.items()}
        self.outcome.certified_lipschitz = max(reply.certified_lipschitz for reply in finished.values())
        self._observer.event("finished", job=self.outcome.job)

    async def _all(
        self, call: Callable[[ControlClient], Awaitable[Reply]], names: Iterable[str] | None = None
    ) -> dict[str, Reply]:
        """Call every party at once, or these. The first failure is raised; calls that still run are given up."""
        clients = {name: self._clients[name] for name in (self._clients if names is None else names)}
        tasks = {name: asyncio.ensure_future(call(client)) for name, client in clients.items()}
        try:
            await asyncio.gather(*tasks.values())
        finally:
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {name: task.result() for name, task in tasks.items()}

    async def _abort(self, error: VflError) -> None:
        """Tell every party why the job is over; those that cannot be reached are passed over."""
        self._observer.event("stopping all parties", reason=error.summary, where=self._where)
        reason = f"{error.summary}. What to do: {error.remedy}" if error.remedy else error.summary
        message = m.Abort(self.outcome.job, self._federation.coordinator, error.code, reason)
        await asyncio.gather(
            *(self._tell(client, message) for client in self._clients.values()), return_exceptions=True
        )

    async def _tell(self, client: ControlClient, message: m.Abort) -> None:
        deadline = time.monotonic() + ABORT_SECONDS
        while True:
            try:
                return await client.abort(message, ABORT_SECONDS)
            except PeerUnreachable:
                # One that was there and is gone will not come back; one that is only starting may be there any moment.
                if self._connected or time.monotonic() > deadline:
                    raise
            await asyncio.sleep(ABORT_RETRY_SECONDS)
