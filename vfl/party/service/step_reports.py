"""Combines a party's phase reports into one report per training step and per epoch."""

from __future__ import annotations

from vfl.ids import Batch, Phase
from vfl.job.callbacks import Callbacks, Epoch, Step
from vfl.job.plan import EpochKind, Plan
from vfl.messages import PhaseCall, PhaseReport
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")

ATTEMPT_BEGINS, SAVED = "an attempt begins", "saved"
"""Events of a run at a party, with ``run`` and ``attempt``, and with ``where`` this party's part of the model is."""

_WORDS = {
    EpochKind.JOINT: "a joint pass over the training rows",
    EpochKind.GRADIENT: "a pass over the training rows",
    EpochKind.LOCAL: "the active party trains alone",
}

_LAST_PHASES: dict[EpochKind | None, Phase] = {
    EpochKind.JOINT: Phase.BOTTOM_BACKWARD,
    EpochKind.GRADIENT: Phase.INTERACTION_BACKWARD,
    EpochKind.LOCAL: Phase.LOCAL_EPOCH,
}
"""The phase with which a training step ends; releases and evaluations are no steps."""


class StepReports:
    """Accumulates the phases of one attempt.

    Args:
        callbacks: notified of steps and epochs.
        plan: the epochs of the job.
    """

    def __init__(self, callbacks: Callbacks, plan: Plan) -> None:
        self._callbacks = callbacks
        self._plan = plan
        self._step: int | None = None
        self._seconds = 0.0
        self._bytes_sent = 0
        self._loss: float | None = None
        self._epoch: int | None = None
        self._logged: int | None = None

    def phase_done(self, call: PhaseCall, report: PhaseReport, rows: int) -> None:
        """Record that a phase of a batch with ``rows`` rows is done."""
        self._log_epoch(call.batch)
        last_phase = _LAST_PHASES.get(self._plan.kind(call.batch))
        if last_phase is None:
            self.epoch_done()
            return
        if call.key.step != self._step:
            self._step, self._seconds, self._bytes_sent, self._loss = call.key.step, 0.0, 0, None
            if self._epoch != call.batch.epoch:
                self.epoch_done()
        self._epoch = call.batch.epoch
        self._seconds += report.seconds
        self._bytes_sent += report.bytes_sent
        self._loss = report.metrics.get("loss", self._loss)
        if call.phase is last_phase:
            self._callbacks.on_step(Step(call.key.step, call.batch, rows, self._loss, self._seconds, self._bytes_sent))

    def _log_epoch(self, batch: Batch) -> None:
        """Log the beginning of each epoch: a passive party learns nothing else of how far the run is."""
        kind = self._plan.kind(batch)
        if kind is None or batch.epoch == self._logged:
            return
        self._logged = batch.epoch
        if kind is EpochKind.RELEASE:
            _log.info("releasing outputs", after_epoch=self.number_of(batch.epoch) - 1)
        else:
            _log.info(f"epoch {self.number_of(batch.epoch)}/{self._plan.counted_epochs}", does=_WORDS[kind])

    def number_of(self, epoch: int) -> int:
        """Number of an epoch for people: from 1, without those that only release outputs."""
        return self._plan.counted(epoch) + 1

    def epoch_done(self) -> None:
        """Record that the current epoch, if any, has no further training steps."""
        if self._epoch is not None:
            epoch, self._epoch = self._plan.counted(self._epoch), None
            self._callbacks.on_epoch(Epoch(epoch, self._plan.counted_epochs, {}))
