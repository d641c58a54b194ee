"""How the coordinator works through a job's schedule in one attempt: steps, evaluations and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from vfl import messages as m
from vfl.coordinator.parties import PartyClients
from vfl.errors import ProtocolError, RemoteError
from vfl.ids import AttemptId, Batch, Phase, Split, StepKey
from vfl.job.best_epoch import BestSoFar
from vfl.job.callbacks import Callbacks, CheckpointDone, Epoch, EvaluationDone, Step
from vfl.job.config import JobConfig
from vfl.job.plan import Plan
from vfl.job.schedule import EVALUATION_PHASES, BestPassCall, EpochEnd, Evaluation, Schedule
from vfl.job.schedule import Step as PlannedStep
from vfl.models.config import without_alone
from vfl.run_records.journal import RunJournal, failed_at_checkpoint
from vfl.run_records.result import RunResult
from vfl.run_records.store import StepRecord
from vfl.transport.channels import ControlChannel


class Training:
    """Leads the parties through training and evaluation.

    Args:
        attempt: included in every call.
        journal: where steps and checkpoints are recorded.
        callbacks: notified of progress.
        step_done: called with every completed step.

    Attributes:
        where: what is being done, in words.
    """

    def __init__(
        self,
        job: JobConfig,
        parties: PartyClients,
        attempt: AttemptId,
        journal: RunJournal,
        callbacks: Callbacks,
        step_done: Callable[[int], None],
    ) -> None:
        self._job = job
        self._parties = parties
        self._attempt = attempt
        self._journal = journal
        self._callbacks = callbacks
        self._step_done = step_done
        self._scored: dict[str, float] = {}
        self._best = BestSoFar(job.task.primary_metric, job.training.patience)
        self._ends = self._ended = False
        self._steps_kept = self._outcome.steps
        self.where = "the first checkpoint"

    @property
    def _outcome(self) -> RunResult:
        return self._journal.outcome

    async def run(self, schedule: Schedule, done: int) -> None:
        """Do the scheduled work after step ``done``; 0 means from the beginning, which gets a checkpoint, too.

        Raises:
            VflError: what interrupted it.
        """
        if not done:
            await self._keep(0, durable=True)
        if self._job.keeps_best_pass:
            self._best = self._best_in(0, self._job.passes)
        for work in schedule:
            match work:
                case BestPassCall():
                    await self._choose(work, done)
                case _ if self._ended:
                    continue
                case PlannedStep() if work.step > done:
                    await self._do(work)
                case Evaluation() if work.last_step > done:
                    await self._evaluate(work)
                case EpochEnd():
                    await self._end_epoch(work, done, schedule.plan)

    async def _do(self, work: PlannedStep) -> None:
        started = time.perf_counter()
        reports = await self._step_through(work.phases, work.step, work.batch)
        self._outcome.steps += 1
        if work.trains:
            self._trained(work, reports, time.perf_counter() - started)
        self._step_done(work.step)
        await self._keep_if_due(work.step)
        self._outcome.seconds_training += time.perf_counter() - started

    def _trained(self, work: PlannedStep, reports: list[m.PhaseReport], seconds: float) -> None:
        losses = [report.metrics["loss"] for report in reports if "loss" in report.metrics]
        if not losses:
            raise ProtocolError("the active party reported no loss", remedy="run the same version of vfl everywhere")
        loss = losses[0]
        sent = sum(report.bytes_sent for report in reports)
        self._outcome.trained_samples += work.rows
        self._outcome.epoch_steps += 1
        self._outcome.epoch_loss += loss
        batch = work.batch
        self._journal.record(
            StepRecord(
                work.step,
                self._attempt.number,
                str(batch.split),
                batch.epoch,
                batch.index,
                work.rows,
                loss,
                seconds,
                sent,
            )
        )
        self._callbacks.on_step(Step(work.step, batch, work.rows, loss, seconds, sent))

    async def _step_through(self, phases: tuple[Phase, ...], step: int, batch: Batch) -> list[m.PhaseReport]:
        key = StepKey(self._attempt.run, step, self._attempt.number)
        reports: list[m.PhaseReport] = []
        for phase in phases:
            self.where = f"{phase} of batch {batch.index + 1}, epoch {batch.epoch + 1} ({batch.split})"
            call = m.PhaseCall(self._attempt.job, key, phase, batch)
            replies = await self._parties.all(partial(_run_phase, call))
            reports += replies.values()
            if batch.split is Split.TRAIN:
                self._count_bytes(replies)
        return reports

    def _count_bytes(self, replies: Mapping[str, m.PhaseReport]) -> None:
        sent = self._outcome.training_bytes_sent
        for name, report in replies.items():
            sent[name] = sent.get(name, 0) + report.bytes_sent

    async def _evaluate(self, work: Evaluation) -> None:
        started = time.perf_counter()
        for at, batch in enumerate(work.batches):
            await self._step_through(EVALUATION_PHASES, work.first_step + at, batch)
        self.where = f"scoring ({work.split})"
        score = m.Score(*self._attempt, work.split, work.epoch)
        scored = (await self._parties.of_active(lambda client: client.score(score))).metrics
        metrics, alone = without_alone(scored)
        self._outcome.seconds_evaluation += time.perf_counter() - started
        if work.split is Split.TEST:
            self._outcome.test, self._outcome.alone = metrics, alone
        self._callbacks.on_evaluation(EvaluationDone(work.split, work.epoch, metrics))
        self._scored = {f"{work.split}_{name}": value for name, value in metrics.items()}
        if self._job.keeps_best_pass and work.split is Split.VALIDATION and work.batches:
            self._best.consider(work.epoch, metrics)

    async def _end_epoch(self, work: EpochEnd, done: int, plan: Plan) -> None:
        outcome, epochs, self._ended = self._outcome, plan.counted_epochs, self._ends
        if work.last_step < done or work.epoch < outcome.last_epoch:
            return
        record = {"epoch": float(work.epoch + 1), "loss": outcome.epoch_loss / outcome.epoch_steps} | self._scored
        outcome.epoch_steps, outcome.epoch_loss, self._scored = 0, 0.0, {}
        outcome.history.append(record)
        self._callbacks.on_epoch(Epoch(work.epoch, epochs, record))
        if work.epoch + 1 == epochs:
            self._note_best_local_epoch(plan)
            await self._keep(work.last_step, durable=True)

    # --- the best epochs ---

    async def _choose(self, work: BestPassCall, done: int) -> None:
        """Have all parties mark a pass that is the best so far, or go back to the one that was."""
        epoch = self._best.epoch
        if work.phase is Phase.MARK_BEST:
            if work.step > done and self._best.unmarked:
                await self._step_through((work.phase,), work.step, work.batch)
                self._best.mark(work.batch.epoch)
            self._ends = self._best.ends_after(work.batch.epoch)
            return
        self._ends = self._ended = False
        if work.step > done and epoch is not None:
            self._callbacks.event("back to the best pass", epoch=epoch + 1, of=self._outcome.last_epoch)
            await self._step_through((work.phase,), work.step, replace(work.batch, epoch=epoch))
            self._outcome.note_best(epoch + 1)
            await self._keep(work.step, durable=True)

    def _best_in(self, first: int, last: int) -> BestSoFar:
        """The best of some epochs, by what is recorded of those that are over."""
        metric = self._job.task.primary_metric
        best = BestSoFar(metric, self._job.training.patience)
        for record in self._outcome.history:
            epoch, name = int(record["epoch"]) - 1, f"{Split.VALIDATION}_{metric}"
            if first <= epoch < last and name in record:
                best.consider(epoch, {metric: record[name]})
        best.unmarked = False
        return best

    def _note_best_local_epoch(self, plan: Plan) -> None:
        """The active party has gone back to it by itself."""
        first = plan.first_local_of_last_run
        if self._job.keeps_best and first is not None:
            best = self._best_in(plan.counted(first), plan.counted_epochs)
            if best.epoch is not None:
                self._outcome.note_best(best.epoch + 1)

    # --- checkpoints ---

    async def _keep_if_due(self, step: int) -> None:
        plan, steps = self._job.checkpoints, self._outcome.steps
        minutes = (time.monotonic() - self._journal.kept_durably_at) / 60
        if steps - self._outcome.steps_kept_durably >= plan.every_steps or minutes >= plan.every_minutes:
            await self._keep(step, durable=True)
        elif steps - self._steps_kept >= plan.unsynced_every_steps:
            await self._keep(step, durable=False)

    async def _keep(self, step: int, *, durable: bool) -> None:
        """Take a checkpoint in two phases: once the journal has recorded it, all parties have theirs.

        The run survives a party whose disk is full; only at step 0, where nothing would be lost, does it stop instead.

        Raises:
            RemoteError: a party cannot write any checkpoint.
        """
        previously, self.where = self.where, f"the checkpoint of step {step}"
        self._steps_kept = self._outcome.steps
        if durable:
            self._outcome.steps_kept_durably, self._journal.kept_durably_at = self._steps_kept, time.monotonic()
        call = m.Checkpoint(self._attempt.job, StepKey(self._attempt.run, step, self._attempt.number), durable)
        try:
            written = await self._parties.all(lambda client: client.checkpoint(call))
            checkpoints = {name: reply.checkpoint for name, reply in written.items()}
            self._journal.commit(step, checkpoints, durable=durable)
            await self._parties.each(lambda name, client: client.commit(m.Commit(*self._attempt, checkpoints[name])))
            self._callbacks.on_checkpoint(CheckpointDone(step))
        except RemoteError as error:
            if not failed_at_checkpoint(error) or step == 0:
                raise
            self._journal.note("checkpoint failed", error.summary, step=step)
            self._callbacks.event("no checkpoint", step=step, reason=error.summary, remedy=error.remedy)
        self.where = previously


async def _run_phase(call: m.PhaseCall, client: ControlChannel) -> m.PhaseReport:
    return await client.run_phase(call)
