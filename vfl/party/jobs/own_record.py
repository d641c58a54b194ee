"""A party's own record of the runs that it took part in: when, of which job, how they ended, what they released."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from vfl.errors import ConfigError, JobAborted, ProcessEnding, VflError
from vfl.ids import Split
from vfl.job.callbacks import Callback, EvaluationDone, Interrupted, Ready, Step
from vfl.job.digests import job_digest
from vfl.party.config import PartySetup
from vfl.party.roles.disclosure import keeps_ledger
from vfl.party.service.step_reports import ATTEMPT_BEGINS, SAVED
from vfl.run_records.result import RunResult
from vfl.run_records.store import RunState, RunStore
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")


class OwnRecord(Callback):
    """Records one run in the party's file, which is the same as a coordinator's (``vfl.run_records``).

    Nothing depends on it: where it cannot be written, the log says so, and the run goes on. A process that was killed
    leaves a run that looks as if it were going on.

    Args:
        setup: the party's, for the job that is served.
    """

    def __init__(self, setup: PartySetup) -> None:
        self._setup = setup
        # With the name, by which the record is told from that of a coordinator with the same file.
        self._file = f"{setup.config.job} (party {setup.name})"
        self._store: RunStore | None = None
        self._result = RunResult("")
        self._saved = ""

    # --- what happens ---

    def on_event(self, what: str, facts: Mapping[str, Any]) -> None:
        """See ``Callback``, as for what follows."""
        if what == ATTEMPT_BEGINS:
            self._begin(facts["run"])
        elif what == SAVED:
            self._saved = facts["where"]

    def on_ready(self, ready: Ready) -> None:
        """Rows in common."""
        self._result.rows, self._result.train_rows = ready.rows, ready.train_rows

    def on_step(self, step: Step) -> None:
        """A training step; after an interruption some are repeated and count again."""
        name, result = self._setup.name, self._result
        result.steps += 1
        result.trained_samples += step.rows
        result.seconds_training += step.seconds
        result.training_bytes_sent[name] = result.training_bytes_sent.get(name, 0) + step.bytes_sent

    def on_evaluation(self, evaluation: EvaluationDone) -> None:
        """Metrics, which only the active party has."""
        if evaluation.split is Split.TEST:
            self._result.test = dict(evaluation.metrics)

    def on_interruption(self, interruption: Interrupted) -> None:
        """As an event of the record."""
        facts = {"where": interruption.where}
        self._write(lambda store: store.event(self._result.run, "interrupted", interruption.reason, **facts))

    # --- the file ---

    def _begin(self, run: str) -> None:
        def begin(store: RunStore) -> None:
            setup = self._setup
            known = next((record for record in store.runs() if record.run == run), None)
            if known is None:
                digest = job_digest(setup.job, setup.federation)
                store.begin(run, setup.job.name, setup.federation.name, digest, self._file)
            elif known.job_file != self._file:
                raise ConfigError(
                    "the record of runs is another member's",
                    detail=f"{setup.config.runs.database} has {run} for {known.job_file}",
                    remedy="give each member its own 'runs.database'",
                )
            store.next_attempt(run)
            self._result.run = run

        self._write(begin, opens=True)

    def close(self, error: VflError | None) -> None:
        """Record how the run ended, if one has begun.

        Args:
            error: what ended it; None if it finished.
        """
        if self._store is None or not self._result.run:
            return
        run, state = self._result.run, RunState.FINISHED
        if error is not None:
            state = RunState.STOPPED if isinstance(error, JobAborted | ProcessEnding) else RunState.FAILED

        def end(store: RunStore) -> None:
            if self._saved:
                store.event(run, "saved", self._saved)
            if (released := self._released()) is not None:
                store.event(run, "released", "releases of rows that the ledger counts for this run", releases=released)
            store.end(run, state, error=error.summary if error else "", outcome=self._result.to_json())

        self._write(end)
        self._close_file()

    def _released(self) -> int | None:
        """Releases charged to the run; None where there is no ledger, or it cannot be read."""
        config = self._setup.config
        if not keeps_ledger(self._setup) or not config.privacy.ledger.exists():
            return None
        try:
            with config.open_ledger() as ledger:
                return ledger.released_in(self._result.run)
        except VflError as error:
            _log.warning("the ledger cannot be read for the record of runs", reason=str(error))
            return None

    def _write(self, work: Callable[[RunStore], None], *, opens: bool = False) -> None:
        """Write something; an error is logged, and nothing more of this run is recorded."""
        try:
            if opens and self._store is None:
                self._store = RunStore(self._setup.config.runs.database)
            if self._store is not None:
                work(self._store)
        except VflError as error:
            _log.warning("this party's record of runs cannot be written", reason=str(error))
            self._close_file()

    def _close_file(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()
