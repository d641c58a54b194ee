"""How far one run is, as its coordinator keeps it: what has been committed, and what has been measured since."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from vfl.errors import CheckpointError, RemoteError, VflError
from vfl.ids import CheckpointId
from vfl.run_records.result import RunResult
from vfl.run_records.store import CommittedCheckpoint, RunState, RunStore, StepRecord, superseded_coordinator


class RunJournal:
    """One run in a store of runs.

    Args:
        store: where it was begun.
        run: its name.

    Attributes:
        outcome: what the run has to show so far.
        kept_durably_at: when the last durable checkpoint was begun, on the monotonic clock; an interruption of the run
            does not put the next one off.
    """

    def __init__(self, store: RunStore, run: str) -> None:
        self._store = store
        self._run = run
        self._steps: list[StepRecord] = []
        self._own_attempt = store.get(run).attempt
        kept = store.outcome(run)
        self.outcome = RunResult.from_json(kept) if kept else RunResult(run)
        self.kept_durably_at = time.monotonic()

    @property
    def saved(self) -> bool:
        """Whether all parties have saved their part of the model."""
        return self._store.get(self._run).state in (RunState.SAVED, RunState.FINISHED)

    @property
    def attempt(self) -> int:
        """The last one that began; 0 before the first."""
        return max(self._store.get(self._run).attempt, 0)

    @property
    def superseded(self) -> bool:
        """Whether another coordinator has gone on with the run, so that this one must leave it alone.

        Not where the record cannot be read: parties must hear of that, too.
        """
        try:
            return self._store.get(self._run).attempt != self._own_attempt
        except CheckpointError:
            return False

    def check_own(self) -> None:
        """Whether the run is still this coordinator's.

        Raises:
            ProtocolError: another one has gone on with it.
        """
        if self.superseded:
            raise superseded_coordinator()

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint; None without one."""
        return self._store.last_checkpoint(self._run)

    def next_attempt(self) -> int:
        """A number that no attempt of the run has had, wherever its coordinator was stopped.

        Raises:
            ProtocolError: another coordinator has gone on with the run.
        """
        self.check_own()
        self._own_attempt = self._store.next_attempt(self._run)
        return self._own_attempt

    def record(self, step: StepRecord) -> None:
        """A step is done; it is kept with the next checkpoint, as without one it does not count."""
        self._steps.append(step)

    def note(self, kind: str, text: str, **facts: str | float) -> None:
        """Keep an event for ``vfl runs show``."""
        self._store.event(self._run, kind, text, **facts)

    def commit(self, step: int, parties: Mapping[str, CheckpointId], *, durable: bool) -> None:
        """All parties have written this checkpoint: from now on the run can go back to it.

        Raises:
            ProtocolError: another coordinator has gone on with the run.
        """
        checkpoint = CommittedCheckpoint(step, self._own_attempt, durable, parties, self.outcome.to_json())
        self._store.commit(self._run, checkpoint, self._steps)
        self._steps = []

    def common_checkpoints(self, held: Mapping[str, tuple[CheckpointId, ...]]) -> Iterator[CommittedCheckpoint]:
        """Committed checkpoints that all parties still have, newest first."""
        for checkpoint in self._store.checkpoints(self._run):
            if all(identity in held.get(name, ()) for name, identity in checkpoint.parties.items()):
                yield checkpoint

    def go_back(self, checkpoint: CommittedCheckpoint) -> int:
        """Forget what came after a checkpoint; how many training steps that were.

        Raises:
            ProtocolError: another coordinator has gone on with the run.
        """
        before, recoveries = self.outcome.steps, self.outcome.recoveries
        self._store.roll_back(self._run, checkpoint.step, self._own_attempt)
        self._steps = []
        self.outcome = RunResult.from_json(checkpoint.progress)
        self.outcome.recoveries = recoveries or self.outcome.recoveries
        return max(before - self.outcome.steps, 0)

    def begin_anew(self) -> int:
        """Forget everything where there is no checkpoint yet; how many training steps that were.

        Raises:
            CheckpointError: there are checkpoints, but none that all parties have whole.
        """
        if self._store.checkpoints(self._run):
            raise CheckpointError(
                "the run has checkpoints, but none that all parties still have whole",
                remedy="put the directories of 'checkpoints' of all parties back, or start a new run",
            )
        before, self._steps = self.outcome, []
        self.outcome = RunResult(
            self._run,
            party_rows=before.party_rows,
            rows_without_id=before.rows_without_id,
            seconds_setup=before.seconds_setup,
            seconds_alignment=before.seconds_alignment,
            recoveries=before.recoveries,
        )
        return before.steps

    def save(self) -> None:
        """All parties have saved: nothing is repeated from here on.

        Raises:
            ProtocolError: another coordinator has gone on with the run.
        """
        self.check_own()
        self._store.end(self._run, RunState.SAVED, outcome=self.outcome.to_json())

    def finish(self) -> None:
        """The run is over."""
        self._store.end(self._run, RunState.FINISHED, outcome=self.outcome.to_json())

    def stop(self, error: VflError | None) -> None:
        """The run has been stopped by an error, or by its operator."""
        if not self.saved and not self.superseded:
            state = RunState.FAILED if error else RunState.STOPPED
            self._store.end(self._run, state, error=error.summary if error else "stopped by its operator")


def failed_at_checkpoint(error: VflError) -> bool:
    """Whether a party could not write or use a checkpoint of its own: another one may do."""
    return isinstance(error, RemoteError) and error.remote_code == CheckpointError.code
