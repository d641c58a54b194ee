"""The coordinator's journal of one run: what has been committed, and what has been measured since."""

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
        store: the store in which the run was begun.
        run: its name.

    Attributes:
        outcome: the results of the run so far.
        kept_durably_at: when the last durable checkpoint was begun, on the monotonic clock; an interruption of the run
            does not postpone the next one.
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
        """The latest attempt that has begun; 0 before the first."""
        return max(self._store.get(self._run).attempt, 0)

    @property
    def superseded(self) -> bool:
        """Whether another coordinator has taken over the run, so this one must not touch it.

        False if the record cannot be read: parties must be informed of that, too.
        """
        try:
            return self._store.get(self._run).attempt != self._own_attempt
        except CheckpointError:
            return False

    def check_own(self) -> None:
        """Check that the run still belongs to this coordinator.

        Raises:
            ProtocolError: another coordinator has taken over the run.
        """
        if self.superseded:
            raise superseded_coordinator()

    @property
    def last_step(self) -> int | None:
        """Step of the newest checkpoint; None without one."""
        return self._store.last_checkpoint(self._run)

    def next_attempt(self) -> int:
        """A number that no attempt of the run has had, no matter when its coordinator was stopped.

        Raises:
            ProtocolError: another coordinator has taken over the run.
        """
        self.check_own()
        self._own_attempt = self._store.next_attempt(self._run)
        return self._own_attempt

    def record(self, step: StepRecord) -> None:
        """Record a finished step. It is stored with the next checkpoint; without one it does not count."""
        self._steps.append(step)

    def note(self, kind: str, text: str, **facts: str | float) -> None:
        """Store an event for ``vfl runs show``."""
        self._store.event(self._run, kind, text, **facts)

    def commit(self, step: int, parties: Mapping[str, CheckpointId], *, durable: bool) -> None:
        """Record that all parties have written this checkpoint: from now on the run can go back to it.

        Raises:
            ProtocolError: another coordinator has taken over the run.
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
        """Forget what came after a checkpoint; return how many training steps were lost.

        Raises:
            ProtocolError: another coordinator has taken over the run.
        """
        before, recoveries = self.outcome.steps, self.outcome.recoveries
        self._store.roll_back(self._run, checkpoint.step, self._own_attempt)
        self._steps = []
        self.outcome = RunResult.from_json(checkpoint.progress)
        self.outcome.recoveries = recoveries or self.outcome.recoveries
        return max(before - self.outcome.steps, 0)

    def begin_anew(self) -> int:
        """Forget everything if there is no checkpoint yet; return how many training steps were lost.

        Raises:
            CheckpointError: there are checkpoints, but none that all parties have intact.
        """
        if self._store.checkpoints(self._run):
            raise CheckpointError(
                "the run has checkpoints, but none that all parties still have intact",
                remedy="restore 'checkpoints.directory' at all parties, or start a new run",
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
        """Record that all parties have saved their models: nothing is repeated from here on.

        Raises:
            ProtocolError: another coordinator has taken over the run.
        """
        self.check_own()
        self._store.end(self._run, RunState.SAVED, outcome=self.outcome.to_json())

    def finish(self) -> None:
        """Record that the run is over."""
        self._store.end(self._run, RunState.FINISHED, outcome=self.outcome.to_json())

    def stop(self, error: VflError | None) -> None:
        """Record that the run was stopped by an error, or by its operator."""
        if not self.saved and not self.superseded:
            state = RunState.FAILED if error else RunState.STOPPED
            self._store.end(self._run, state, error=error.summary if error else "stopped by its operator")


def failed_at_checkpoint(error: VflError) -> bool:
    """Whether a party could not write or use its own checkpoint: another checkpoint may work."""
    return isinstance(error, RemoteError) and error.remote_code == CheckpointError.code
