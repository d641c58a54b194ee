"""What a run tells about its progress; the command line shows it, tests record it."""

from __future__ import annotations

from typing import Any, Protocol

from vfl.ids import Batch


class Callback(Protocol):
    """Is told about everything a person at the coordinator may want to see."""

    def event(self, what: str, **facts: Any) -> None:
        """Something worth a line happened."""

    def ready(
        self, rows: int, train_rows: int, steps_per_epoch: int, gradient_receivers: tuple[str, ...], steps_done: int
    ) -> None:
        """All parties are aligned and training begins, or goes on after ``steps_done`` steps."""

    def step_done(self, batch: Batch, rows: int, loss: float, seconds: float, bytes_sent: int) -> None:
        """One batch was trained; ``bytes_sent`` over all parties."""

    def epoch_done(self, epoch: int, epochs: int, record: dict[str, float]) -> None:
        """One epoch is over; ``record`` holds its mean loss and validation metrics."""

    def tested(self, metrics: dict[str, float]) -> None:
        """The test rows were scored."""


class SilentCallback:
    """Ignores everything."""

    def event(self, what: str, **facts: Any) -> None:
        """See ``Callback``."""

    def ready(
        self, rows: int, train_rows: int, steps_per_epoch: int, gradient_receivers: tuple[str, ...], steps_done: int
    ) -> None:
        """See ``Callback``."""

    def step_done(self, batch: Batch, rows: int, loss: float, seconds: float, bytes_sent: int) -> None:
        """See ``Callback``."""

    def epoch_done(self, epoch: int, epochs: int, record: dict[str, float]) -> None:
        """See ``Callback``."""

    def tested(self, metrics: dict[str, float]) -> None:
        """See ``Callback``."""
