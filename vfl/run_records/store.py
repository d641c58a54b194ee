"""What a coordinator writes into the record of its runs, in SQLite: which checkpoint all parties have, what happened.

A checkpoint counts from the moment it stands here: ``RunStore.commit`` is the commit point of the two phases in which
the parties write it (ADR 0022, ADR 0023). Nothing here comes from a table of a party: metrics, times and counts only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from vfl.configuration.toml_files import Configuration, LocalPath
from vfl.errors import CheckpointError, ConfigError, ProtocolError
from vfl.run_records.reading import RunReader
from vfl.run_records.rows import KEPT_DURABLE, KEPT_VOLATILE, CommittedCheckpoint, RunState, StepRecord
from vfl.run_records.schema import readable

__all__ = [
    "CommittedCheckpoint",
    "RunState",
    "RunStore",
    "RunsConfig",
    "StepRecord",
]


class RunsConfig(Configuration):
    """``[runs]`` of coordinator.toml.

    Attributes:
        database: SQLite file with the coordinator's record of its runs, on a local disk; made on first use.
    """

    # Also as a default inside another file's model, the path is made relative to that file.
    model_config = ConfigDict(revalidate_instances="always")

    database: LocalPath = Path("runs.sqlite")


class RunStore(RunReader):
    """The record of all runs of one coordinator. May be used from several threads, and by several processes.

    Args:
        path: SQLite file of mode 0600; made if it is not there.

    Raises:
        CheckpointError: it cannot be opened, is no such record, is damaged, or was written by a newer vfl. Every
            method raises it, too, when the file cannot be read or written.
    """

    # --- runs ---

    def begin(self, run: str, job: str, federation: str, digest: str, job_file: str) -> None:
        """Record a new run, which has no attempt yet.

        Args:
            run: its name, for instance ``credit-1a2b3c4d``.
            job: name of the job.
            federation: name of the federation.
            digest: of the files that all parties agree on, see ``vfl.job.config.job_digest``.
            job_file: path of job.toml, to tell how to go on.

        Raises:
            CheckpointError: there is a run of that name.
        """
        now = time.time()
        values = (run, job, federation, digest, job_file, RunState.RUNNING, now, now)
        with self._writing() as do:
            added = do(
                "INSERT INTO runs (run, job, federation, digest, job_file, state, started, updated)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                values,
            ).rowcount
        if not added:
            raise CheckpointError("there is a run of that name already", detail=run, remedy="choose another name")

    def next_attempt(self, run: str) -> int:
        """Number of a new attempt, 0 first; never handed out again, even after a power cut. The run is running now.

        Raises:
            ConfigError: there is no such run, or it is finished.
        """
        record = self.get(run)
        if record.state is RunState.FINISHED:
            raise ConfigError(f"run {run} is finished", remedy="start a new run")
        query = "UPDATE runs SET attempt = attempt + 1, state = ?, error = '', updated = ? WHERE run = ?"
        with self._writing() as do:
            do(query, (RunState.RUNNING, time.time(), run))
            attempt: int = do("SELECT attempt FROM runs WHERE run = ?", (run,)).fetchone()[0]
        return attempt

    def end(self, run: str, state: RunState, error: str = "", outcome: str = "") -> None:
        """Record how a run ended.

        Args:
            run: its name.
            state: FINISHED, FAILED, STOPPED or SAVED.
            error: why, in words.
            outcome: what it has to show, as JSON.

        Raises:
            ConfigError: there is no such run.
        """
        self.get(run)
        query = "UPDATE runs SET state = ?, error = ?, outcome = ?, updated = ? WHERE run = ?"
        with self._writing() as do:
            do(query, (state, error, outcome, time.time(), run))

    # --- checkpoints and steps ---

    def commit(self, run: str, checkpoint: CommittedCheckpoint, steps: Sequence[StepRecord]) -> None:
        """Record that all parties have a checkpoint, and the steps since the one before; all of it or nothing.

        One of the same step and an earlier attempt is replaced. Of those that do not survive a power cut, the last two
        stay, if they are newer than the last one that does: parties keep no more. Of those that do, the last
        ``KEPT_DURABLE`` stay. Flushed to the disk before this returns if the checkpoint itself was.

        Raises:
            ConfigError: there is no such run.
            ProtocolError: the run is in a later attempt: another coordinator has gone on with it.
        """
        self.get(run)
        parties = json.dumps({name: astuple(identity) for name, identity in checkpoint.parties.items()})
        row = (run, checkpoint.step, checkpoint.attempt, checkpoint.durable, parties, checkpoint.progress)
        with self._writing(durable=checkpoint.durable) as do:
            _check_latest(do, run, checkpoint.attempt)
            do("INSERT OR REPLACE INTO checkpoints VALUES (?, ?, ?, ?, ?, ?)", row)
            for step in steps:
                do("INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (run, *astuple(step)))
            do("UPDATE runs SET step = ?, updated = ? WHERE run = ?", (checkpoint.step, time.time(), run))
            do(
                "DELETE FROM checkpoints WHERE run = ?1 AND NOT durable AND (step NOT IN"
                " (SELECT step FROM checkpoints WHERE run = ?1 AND NOT durable ORDER BY step DESC LIMIT ?2)"
                " OR step < (SELECT MAX(step) FROM checkpoints WHERE run = ?1 AND durable))",
                (run, KEPT_VOLATILE),
            )
            do(
                "DELETE FROM checkpoints WHERE run = ?1 AND durable AND step NOT IN"
                " (SELECT step FROM checkpoints WHERE run = ?1 AND durable ORDER BY step DESC LIMIT ?2)",
                (run, KEPT_DURABLE),
            )

    def roll_back(self, run: str, step: int, attempt: int) -> int:
        """Forget steps and checkpoints after ``step``; return how many recorded steps were lost.

        Args:
            attempt: that goes back.

        Raises:
            ConfigError: there is no such run.
            ProtocolError: the run is in a later attempt: another coordinator has gone on with it.
        """
        self.get(run)
        with self._writing() as do:
            _check_latest(do, run, attempt)
            lost: int = do("DELETE FROM steps WHERE run = ? AND step > ?", (run, step)).rowcount
            do("DELETE FROM checkpoints WHERE run = ? AND step > ?", (run, step))
            do("UPDATE runs SET step = MIN(step, ?), updated = ? WHERE run = ?", (step, time.time(), run))
        return lost

    # --- events ---

    def event(self, run: str, kind: str, text: str, **facts: Any) -> None:
        """Record that something happened, for a person to read later.

        Args:
            run: to which.
            kind: one word, for instance ``failure`` or ``recovery``.
            text: in words.
            facts: values that JSON can hold.

        Raises:
            ConfigError: there is no such run.
        """
        self.get(run)
        values = (run, time.time(), kind, text, json.dumps(facts, default=str))
        with self._writing() as do:
            do("INSERT INTO events (run, time, kind, text, facts) VALUES (?, ?, ?, ?, ?)", values)

    # --- the connection ---

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Iterator[Any]:
        """One transaction; gives the connection's ``execute``. Without ``durable`` a power cut may undo it whole."""
        with self._lock, readable(self._path):
            do = self._connection.execute
            do(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            do("BEGIN IMMEDIATE")
            try:
                yield do
                do("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    do("ROLLBACK")
                raise


def _check_latest(do: Callable[..., Any], run: str, attempt: int) -> None:
    (latest,) = do("SELECT attempt FROM runs WHERE run = ?", (run,)).fetchone()
    if latest > attempt:
        raise superseded_coordinator()


def superseded_coordinator() -> ProtocolError:
    """What a coordinator ends with that another one has replaced."""
    return ProtocolError(
        "another coordinator has gone on with the run",
        remedy="let only one coordinator run the job; the other one's log says how far it is",
    )
