"""Writes a coordinator's record of its runs, in SQLite: which checkpoints all parties have, and what happened.

A checkpoint counts once it is recorded here: ``RunStore.commit`` is the commit point of the two phases in which the
parties write it (ADR 0022, ADR 0023). Nothing here comes from a party's table: only metrics, times and counts.
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
    "PartyRunsConfig",
    "RunState",
    "RunStore",
    "RunsConfig",
    "StepRecord",
]


class RunsConfig(Configuration):
    """``[runs]`` of coordinator.toml.

    Attributes:
        database: SQLite file with the coordinator's record of its runs, on a local disk; created on first use.
    """

    # The path is resolved against the configuration file, even as a default inside another model.
    model_config = ConfigDict(revalidate_instances="always")

    database: LocalPath = Path("runs.sqlite")


class PartyRunsConfig(RunsConfig):
    """``[runs]`` of party.toml.

    Attributes:
        database: SQLite file with this party's own record of the runs that it took part in; created on first use.
            Never the coordinator's, which has runs of the same names.
    """

    database: LocalPath = Path("party_runs.sqlite")


class RunStore(RunReader):
    """The record of all runs of one coordinator. Safe for several threads and several processes.

    Args:
        path: SQLite file of mode 0600; created if it does not exist.

    Raises:
        CheckpointError: it cannot be opened, is not a record of runs, is damaged, or was written by a newer vfl. Every
            method also raises this when the file cannot be read or written.
    """

    # --- runs ---

    def begin(self, run: str, job: str, federation: str, digest: str, job_file: str) -> None:
        """Record a new run, which has no attempt yet.

        Args:
            run: its name, for instance ``credit-1a2b3c4d``.
            job: name of the job.
            federation: name of the federation.
            digest: digest of the files that all parties agree on, see ``vfl.job.digests.job_digest``.
            job_file: path of job.toml, to show how to resume the run.

        Raises:
            CheckpointError: a run with that name exists.
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
            raise CheckpointError("a run with that name already exists", detail=run, remedy="choose another name")

    def next_attempt(self, run: str) -> int:
        """Number of a new attempt, starting at 0 and never reused, even after a power cut. Marks the run as running.

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
            error: why, as text.
            outcome: its results, as JSON.

        Raises:
            ConfigError: there is no such run.
        """
        self.get(run)
        query = "UPDATE runs SET state = ?, error = ?, outcome = ?, updated = ? WHERE run = ?"
        with self._writing() as do:
            do(query, (state, error, outcome, time.time(), run))

    # --- checkpoints and steps ---

    def commit(self, run: str, checkpoint: CommittedCheckpoint, steps: Sequence[StepRecord]) -> None:
        """Record that all parties have a checkpoint, and the steps since the previous one, in one transaction.

        A checkpoint of the same step and an earlier attempt is replaced. Of those that do not survive a power cut, the
        last two are kept if they are newer than the last one that does: parties keep no more. Of those that do, the
        last ``KEPT_DURABLE`` are kept. Flushed to disk before this returns if the checkpoint itself was.

        Raises:
            ConfigError: there is no such run.
            ProtocolError: the run is in a later attempt: another coordinator has taken over the run.
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
            attempt: the attempt that goes back.

        Raises:
            ConfigError: there is no such run.
            ProtocolError: the run is in a later attempt: another coordinator has taken over the run.
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
        """Record an event, for a person to read later.

        Args:
            run: its name.
            kind: one word, for instance ``failure`` or ``recovery``.
            text: description.
            facts: values that JSON can represent.

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
        """One transaction; yields the connection's ``execute``. Without ``durable``, a power cut may undo all of it."""
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
    """The error with which a coordinator ends after another one has replaced it."""
    return ProtocolError(
        "another coordinator has taken over the run",
        remedy="run only one coordinator for the job; the other one's log shows its progress",
    )
