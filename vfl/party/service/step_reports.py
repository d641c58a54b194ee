"""Combines a party's phase reports into one report per training step and per epoch."""

from __future__ import annotations

from vfl.ids import TRAINING_PHASES, Split
from vfl.job.callbacks import Callbacks, Epoch, Step
from vfl.messages import PhaseCall, PhaseReport


class StepReports:
    """Accumulates the phases of one attempt.

    Args:
        callbacks: notified of steps and epochs.
        epochs: number of epochs in the job.
    """

    def __init__(self, callbacks: Callbacks, epochs: int) -> None:
        self._callbacks = callbacks
        self._epochs = epochs
        self._seconds = 0.0
        self._bytes_sent = 0
        self._loss: float | None = None
        self._epoch: int | None = None

    def phase_done(self, call: PhaseCall, report: PhaseReport, rows: int) -> None:
        """Record that a phase of a batch with ``rows`` rows is done."""
        if call.batch.split is not Split.TRAIN:
            self.epoch_done()
            return
        if call.phase is TRAINING_PHASES[0]:
            self._seconds, self._bytes_sent, self._loss = 0.0, 0, None
            if self._epoch != call.batch.epoch:
                self.epoch_done()
        self._epoch = call.batch.epoch
        self._seconds += report.seconds
        self._bytes_sent += report.bytes_sent
        self._loss = report.metrics.get("loss", self._loss)
        if call.phase is TRAINING_PHASES[-1]:
            self._callbacks.on_step(Step(call.key.step, call.batch, rows, self._loss, self._seconds, self._bytes_sent))

    def epoch_done(self) -> None:
        """Record that the current epoch, if any, has no further training steps."""
        if self._epoch is not None:
            epoch, self._epoch = self._epoch, None
            self._callbacks.on_epoch(Epoch(epoch, self._epochs, {}))
