"""Progress of a run on the terminal: a bar with epoch, step, loss, speed and traffic; a line per epoch."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import structlog
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from vfl.ids import Batch

_log = structlog.get_logger("vfl.coordinator")

SMOOTHING = 0.1


class ProgressObserver:
    """Shows a progress bar if the terminal supports it, and always logs a line per epoch."""

    def __init__(self, console: Console, epochs: int) -> None:
        self._epochs = epochs
        self._samples_per_second = 0.0
        self._bytes_sent = 0
        self._steps_per_epoch = 0
        self._progress = Progress(
            TextColumn("[bold]epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
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
            "train", total=None, visible=False, epoch=1, epochs=epochs, loss=0.0, speed=0.0, megabytes=0.0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def event(self, what: str, **facts: Any) -> None:
        """See ``Callback``. An event with a reason is a failure and is logged as a warning."""
        log = _log.warning if "reason" in facts else _log.info
        log(what, **facts)

    def ready(
        self, rows: int, train_rows: int, steps_per_epoch: int, gradient_receivers: tuple[str, ...], steps_done: int
    ) -> None:
        """See ``Callback``."""
        self._steps_per_epoch = steps_per_epoch
        self._progress.update(self._task, total=steps_per_epoch * self._epochs, completed=steps_done, visible=True)
        _log.info(
            "all parties ready",
            aligned_rows=rows,
            train_rows=train_rows,
            steps_per_epoch=steps_per_epoch,
            activation_gradients_to=list(gradient_receivers),
        )

    def step_done(self, batch: Batch, rows: int, loss: float, seconds: float, bytes_sent: int) -> None:
        """See ``Callback``."""
        speed = rows / seconds
        self._samples_per_second += (speed - self._samples_per_second) * (SMOOTHING if self._samples_per_second else 1)
        self._bytes_sent += bytes_sent
        self._progress.update(
            self._task,
            advance=1,
            epoch=batch.epoch + 1,
            loss=loss,
            speed=self._samples_per_second,
            megabytes=self._bytes_sent / 1e6,
        )

    def epoch_done(self, epoch: int, epochs: int, record: dict[str, float]) -> None:
        """See ``Callback``."""
        facts = {name: round(value, 4) for name, value in record.items() if name != "epoch"}
        _log.info(f"epoch {epoch + 1}/{epochs}", **facts, samples_per_second=round(self._samples_per_second))

    def tested(self, metrics: dict[str, float]) -> None:
        """See ``Callback``."""
        _log.info("test", **{name: round(value, 4) for name, value in metrics.items()})
