"""Combines a party's phase reports into one report per training step and per epoch."""

from __future__ import annotations

from vfl.ids import Phase
from vfl.job.callbacks import Callbacks, Epoch, Step
from vfl.job.plan import EpochKind, Plan
from vfl.messages import PhaseCall, PhaseReport

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

    def phase_done(self, call: PhaseCall, report: PhaseReport, rows: int) -> None:
        """Record that a phase of a batch with ``rows`` rows is done."""
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

    def epoch_done(self) -> None:
        """Record that the current epoch, if any, has no further training steps."""
        if self._epoch is not None:
            epoch, self._epoch = self._plan.counted(self._epoch), None
            self._callbacks.on_epoch(Epoch(epoch, self._plan.counted_epochs, {}))
