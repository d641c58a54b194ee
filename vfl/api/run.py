"""What a run gave, and all runs in a coordinator's record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vfl.errors import ConfigError
from vfl.run_records.curves import draw_curves
from vfl.run_records.result import Recovery, RunResult
from vfl.run_records.store import RunStore
from vfl.run_records.summary import summary_of

if TYPE_CHECKING:
    from vfl.api.joint_model import JointModel


class Run:
    """One execution of a job, from beginning to end.

    Attributes:
        result: everything that was measured; times in seconds, traffic in bytes.
        model: of a simulation, which has every party's part; None where parties keep theirs to themselves.
    """

    def __init__(self, result: RunResult, model: JointModel | None = None) -> None:
        self.result = result
        self.model = model

    @property
    def name(self) -> str:
        """Of the run: the job's name and something unique."""
        return self.result.run

    @property
    def test(self) -> dict[str, float]:
        """Metrics on the test rows, by name."""
        return self.result.test

    @property
    def alone(self) -> dict[str, float]:
        """The same of a model that the active party trained on its own columns, with the same rows and split.

        Empty if it has no columns, or ``train_alone = false``.
        """
        return self.result.alone

    @property
    def summary(self) -> str:
        """Rows, steps, traffic and metrics as lines to be printed."""
        return summary_of(self.result)

    @property
    def history(self) -> list[dict[str, float]]:
        """Of every epoch: its number from 1, its mean loss, and the validation metrics that were computed after it.

        An epoch whose model was kept as the best one also has ``best``, which is 1.
        """
        return self.result.history

    @property
    def bytes_sent(self) -> Mapping[str, int]:
        """By each party in training, in bytes."""
        return self.result.training_bytes_sent

    @property
    def rows(self) -> int:
        """That all parties have in common."""
        return self.result.rows

    @property
    def recoveries(self) -> list[Recovery]:
        """Interruptions that the run recovered from."""
        return self.result.recoveries

    def plot(self, path: str | Path | None = None) -> Any:
        """Loss and validation metrics by epoch, with the epochs whose models were kept.

        Args:
            path: where to save the picture, if anywhere.

        Returns:
            A ``matplotlib.figure.Figure``, which a notebook shows.

        Raises:
            ConfigError: matplotlib is not installed.
        """
        figure = draw_curves(self.history, self.name)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value:.4f}" for name, value in self.test.items())
        return f"Run({self.name!r}, rows={self.rows}, steps={self.result.steps}, test: {shown or 'none'})"


def runs(database: str | Path) -> list[Run]:
    """All runs in a coordinator's record, newest first, each with what it has to show so far.

    Args:
        database: the SQLite file that ``runs.database`` of coordinator.toml names.

    Raises:
        ConfigError: there is no such file.
        CheckpointError: it cannot be read.
    """
    path = Path(database)
    if not path.is_file():
        raise ConfigError(
            "there is no record of runs",
            detail=str(path),
            remedy="name the file of 'runs.database' in coordinator.toml",
        )
    with RunStore(path) as store:
        found = []
        for record in store.runs():
            kept = store.outcome(record.run)
            found.append(Run(RunResult.from_json(kept) if kept else RunResult(record.run)))
        return found
