"""What a program can be notified of while a run goes on, at the coordinator and at each party."""

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
        rows: aligned rows; ``train_rows`` of them are trained on.
        steps_per_epoch: training steps.
        gradient_receivers: passive parties whose bottoms train.
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
        step: counted from 1 through the whole run, evaluation included.
        batch: which one; epoch and index count from 0.
        rows: in the batch.
        loss: mean over them; None at a passive party, which does not know it.
        seconds: how long it took; at a party its own phases.
        bytes_sent: by all parties; at a party by itself.
    """

    step: int
    batch: Batch
    rows: int
    loss: float | None
    seconds: float
    bytes_sent: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch is over. ``record`` holds, at the coordinator, its mean loss and validation metrics."""

    epoch: int
    epochs: int
    record: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EvaluationDone:
    """A whole split was scored. ``metrics`` by name; empty at a passive party."""

    split: Split
    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class CheckpointDone:
    """All parties have a checkpoint of this step."""

    step: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The run was interrupted; it resumes from a checkpoint if it can. ``where`` says in words what was being done."""

    reason: str
    where: str


class Callback:
    """Base of callbacks: override what you need. Called from the event loop, so do not block for long.

    An exception ends the run with ``CallbackError``: at the coordinator for all, with the details in its own log only.
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
        """Anything else that a person may want to read; ``what`` in words, ``facts`` by name."""


class Callbacks(Callback):
    """Several callbacks as one; what one raises becomes a ``CallbackError``."""

    def __init__(self, callbacks: Iterable[Callback]) -> None:
        self._callbacks = tuple(callbacks)

    def on_ready(self, ready: Ready) -> None:
        """See ``Callback``, as for all that follow."""
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
        """Short for ``on_event``."""
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
