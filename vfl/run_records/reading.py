"""Reads the coordinator's record of its runs, for ``vfl runs`` and for resuming a run."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from vfl.errors import ConfigError
from vfl.run_records.rows import CommittedCheckpoint, EpochRecord, Event, Row, RunRecord, RunState, StepRecord
from vfl.run_records.schema import create_or_check, readable
from vfl.runtime.durable_files import make_directories

RecordT = TypeVar("RecordT")

BUSY_SECONDS = 10.0
"""How long to wait for another process that is writing to the same file."""
_SHOWN_NAMES = 5

_RUN = "SELECT run, job, federation, digest, job_file, state, attempt, step, started, updated, error FROM runs"


class RunReader:
    """Read access to the record of all runs of one coordinator. Safe for several threads and several processes.

    Args:
        path: SQLite file of mode 0600; created if it does not exist.

    Raises:
        CheckpointError: it cannot be opened, is not a record of runs, is damaged, or was written by a newer vfl. Every
            method also raises this when the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with readable(path):
            _make_file(path)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                create_or_check(self._connection, path)
            except BaseException:
                self._connection.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    # --- runs ---

    def get(self, run: str) -> RunRecord:
        """What is recorded about a run.

        Raises:
            ConfigError: there is no such run.
        """
        found = self._read(RunRecord.of, f"{_RUN} WHERE run = ?", run)
        if not found:
            names = ", ".join(record.run for record in self.runs()[:_SHOWN_NAMES])
            raise ConfigError(
                "no such run",
                detail=f"{run} is not in {self._path}; the latest are: {names or 'none'}",
                remedy="choose a name that 'vfl runs' lists",
            )
        return found[0]

    def find(self, name: str) -> RunRecord:
        """The run of this name, or the only one whose name begins with it.

        Raises:
            ConfigError: there is none, or there are several.
        """
        found = [record for record in self.runs() if record.run.startswith(name)]
        exact = [record for record in found if record.run == name]
        if len(found) > 1 and not exact:
            raise ConfigError(
                f"{len(found)} runs have names that begin so",
                detail=", ".join(record.run for record in found[:_SHOWN_NAMES]),
                remedy="write more of the name",
            )
        return (exact or found or [self.get(name)])[0]

    def runs(self) -> list[RunRecord]:
        """All runs, newest first."""
        return self._read(RunRecord.of, f"{_RUN} ORDER BY rowid DESC")

    def latest_unfinished(self, job: str) -> RunRecord | None:
        """The latest run of a job, if it is not finished. Which one is the latest does not depend on the clock."""
        latest = self._read(RunRecord.of, f"{_RUN} WHERE job = ? ORDER BY rowid DESC LIMIT 1", job)
        return next((record for record in latest if record.state is not RunState.FINISHED), None)

    def outcome(self, run: str) -> str:
        """The outcome passed to ``end``; empty before that.

        Raises:
            ConfigError: there is no such run.
        """
        self.get(run)
        return self._read(lambda row: str(row[0]), "SELECT outcome FROM runs WHERE run = ?", run)[0]

    # --- checkpoints, steps and events ---

    def checkpoints(self, run: str) -> list[CommittedCheckpoint]:
        """Checkpoints that all parties had, by step, newest first."""
        query = "SELECT step, attempt, durable, parties, progress FROM checkpoints WHERE run = ? ORDER BY step DESC"
        return self._read(CommittedCheckpoint.of, query, run)

    def last_checkpoint(self, run: str) -> int | None:
        """Step of the newest checkpoint that all parties had; None without one."""
        query = "SELECT step FROM checkpoints WHERE run = ? ORDER BY step DESC LIMIT 1"
        return next(iter(self._read(lambda row: int(row[0]), query, run)), None)

    def steps(self, run: str) -> list[StepRecord]:
        """All recorded steps in order."""
        query = (
            "SELECT step, attempt, split, epoch, batch, rows, loss, seconds, bytes_sent FROM steps"
            " WHERE run = ? ORDER BY step"
        )
        return self._read(lambda row: StepRecord(*row), query, run)

    def epochs(self, run: str) -> list[EpochRecord]:
        """Totals of the recorded training steps of each epoch, in order."""
        query = (
            "SELECT ROW_NUMBER() OVER (ORDER BY epoch), COUNT(*), AVG(loss), SUM(seconds), SUM(bytes_sent)"
            " FROM steps WHERE run = ? AND loss IS NOT NULL GROUP BY epoch ORDER BY epoch"
        )
        return self._read(lambda row: EpochRecord(*row), query, run)

    def events(self, run: str) -> list[Event]:
        """All events, in order."""
        query = "SELECT time, kind, text, facts FROM events WHERE run = ? ORDER BY number"
        return self._read(Event.of, query, run)

    def _read(self, of: Callable[[Row], RecordT], query: str, *values: object) -> list[RecordT]:
        with self._lock, readable(self._path):
            return [of(row) for row in self._connection.execute(query, values)]


def _make_file(path: Path) -> None:
    """Create the file with mode 0600; SQLite gives its other files the same mode."""
    make_directories(path.absolute().parent)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
