"""Progress of a run on the terminal: a bar with epoch, step, loss, speed and traffic; a line per epoch."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vfl.ids import Split
from vfl.job.callbacks import Callback, Epoch, EvaluationDone, Ready, Step
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.coordinator")

SMOOTHING = 0.1


class ProgressBar(Callback):
    """Shows a progress bar if the terminal supports it, and always logs a line per epoch.

    Args:
        epochs: that train something; the bar counts them, because their steps differ.
    """

    def __init__(self, console: Console, epochs: int) -> None:
        self._epochs_done = 0
        self._steps_per_epoch = 1
        self._samples_per_second = 0.0
        self._bytes_sent = 0
        self._progress = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("step {task.fields[step]}"),
            TextColumn("loss {task.fields[loss]:.4f}"),
            TextColumn("{task.fields[speed]:,.0f} samples/s"),
            TextColumn("{task.fields[megabytes]:,.0f} MB sent"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task(
            "train", total=epochs, visible=False, epoch=1, epochs=epochs, step=0, loss=0.0, speed=0.0, megabytes=0.0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def on_event(self, what: str, facts: Mapping[str, Any]) -> None:
        """See ``Callback``. An event with a reason is a failure and is logged as a warning."""
        log = _log.warning if "reason" in facts else _log.info
        log(what, **facts)

    def on_ready(self, ready: Ready) -> None:
        """See ``Callback``."""
        self._steps_per_epoch = ready.steps_per_epoch
        self._epochs_done = ready.steps_done // ready.steps_per_epoch  # about, until the next one is over
        self._progress.update(self._task, step=ready.steps_done, visible=True)
        _log.info(
            "all parties ready",
            aligned_rows=ready.rows,
            train_rows=ready.train_rows,
            steps_per_epoch=ready.steps_per_epoch,
            activation_gradients_to=list(ready.gradient_receivers),
        )

    def on_step(self, step: Step) -> None:
        """See ``Callback``."""
        speed = step.rows / step.seconds
        self._samples_per_second += (speed - self._samples_per_second) * (SMOOTHING if self._samples_per_second else 1)
        self._bytes_sent += step.bytes_sent
        self._progress.update(
            self._task,
            completed=self._epochs_done + min(1.0, (step.batch.index + 1) / self._steps_per_epoch),
            step=step.step,
            loss=step.loss,
            speed=self._samples_per_second,
            megabytes=self._bytes_sent / 1e6,
        )

    def on_epoch(self, epoch: Epoch) -> None:
        """See ``Callback``."""
        self._epochs_done = epoch.epoch + 1
        self._progress.update(self._task, completed=self._epochs_done, epoch=min(self._epochs_done + 1, epoch.epochs))
        facts = {name: round(value, 4) for name, value in epoch.record.items() if name != "epoch"}
        _log.info(
            f"epoch {epoch.epoch + 1}/{epoch.epochs}", **facts, samples_per_second=round(self._samples_per_second)
        )

    def on_evaluation(self, evaluation: EvaluationDone) -> None:
        """See ``Callback``. Validation metrics are shown with their epoch."""
        if evaluation.split is Split.TEST:
            _log.info("test", **{name: round(value, 4) for name, value in evaluation.metrics.items()})
