"""The coordinator's record of runs, for programs."""

from __future__ import annotations

from pathlib import Path

from vfl.api.run import Run
from vfl.errors import ConfigError
from vfl.run_records.result import RunResult
from vfl.run_records.store import RunStore


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
