"""What a program can be notified of during a run, at the coordinator and at each party."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vfl.errors import CallbackError
from vfl.ids import Batch, Split
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.callbacks")


@dataclass(frozen=True, slots=True)
class Ready:
    """All parties are aligned and training begins, or resumes after ``steps_done`` steps.

    Attributes:
        rows: aligned rows, of which ``train_rows`` are used for training.
        steps_per_epoch: training steps per epoch.
        gradient_receivers: passive parties whose bottom models are trained.
    """

    rows: int
    train_rows: int
    steps_per_epoch: int
    gradient_receivers: tuple[str, ...]
    steps_done: int


@dataclass(frozen=True, slots=True)
class Step:
    """One training batch is done.

    Attributes:
        step: its number, counted from 1 over the whole run, including evaluation.
        batch: the batch; epoch and index count from 0.
        rows: number of rows in the batch.
        loss: mean loss over those rows; None at a passive party, which does not know it.
        seconds: duration of the step; at a party, of its own phases.
        bytes_sent: bytes sent by all parties; at a party, by that party.
    """

    step: int
    batch: Batch
    rows: int
    loss: float | None
    seconds: float
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch is over. At the coordinator, ``record`` holds its mean loss and validation metrics."""

    epoch: int
    epochs: int
    record: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationDone:
    """A whole split was scored. ``metrics`` are by name, and empty at a passive party."""

    split: Split
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointDone:
    """All parties have a checkpoint of this step."""

    step: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was interrupted; it resumes from a checkpoint if possible. ``where`` describes what was in progress."""

    reason: str
    where: str


class Callback:
    """Base class of callbacks: override what you need. Called from the event loop, so do not block for long.

    An exception ends the run with ``CallbackError``. Raised at the coordinator, it ends the run for all parties; the
    details appear only in the coordinator's own log.
    """

    def on_ready(self, ready: Ready) -> None:
        """Training begins or resumes."""

    def on_step(self, step: Step) -> None:
        """A training step is done."""

    def on_epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""

    def on_evaluation(self, evaluation: EvaluationDone) -> None:
        """A split was scored."""

    def on_checkpoint(self, checkpoint: CheckpointDone) -> None:
        """A checkpoint is complete at all parties."""

    def on_interruption(self, interruption: Interrupted) -> None:
        """The run was interrupted."""

    def on_event(self, what: str, facts: Mapping[str, Any]) -> None:
        """Anything else worth reading: ``what`` happened in words, and ``facts`` by name."""


class Callbacks(Callback):
    """Several callbacks as one; an exception from any of them becomes a ``CallbackError``."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_ready(self, ready: Ready) -> None:
        """See ``Callback``, as for the methods below."""
        self._each("on_ready", ready)

    def on_step(self, step: Step) -> None:
        """A training step is done."""
        self._each("on_step", step)

    def on_epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        self._each("on_epoch", epoch)

    def on_evaluation(self, evaluation: EvaluationDone) -> None:
        """A split was scored."""
        self._each("on_evaluation", evaluation)

    def on_checkpoint(self, checkpoint: CheckpointDone) -> None:
        """A checkpoint is complete at all parties."""
        self._each("on_checkpoint", checkpoint)

    def on_interruption(self, interruption: Interrupted) -> None:
        """The run was interrupted."""
        self._each("on_interruption", interruption)

    def on_event(self, what: str, facts: Mapping[str, Any]) -> None:
        """Anything else."""
        self._each("on_event", what, facts)

    def event(self, what: str, **facts: Any) -> None:
        """Shorthand for ``on_event``."""
        self.on_event(what, facts)

    def _each(self, method: str, *arguments: Any) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, method)(*arguments)
            except Exception as error:
                name = f"{type(callback).__name__}.{method}"
                _log.error("a callback failed", callback=name, exc_info=error)
                raise CallbackError(
                    "a callback failed",
                    detail=f"{name} raised {type(error).__name__}: {error}",
                    remedy="correct the callback; the run can be resumed from its last checkpoint",
                ) from error
