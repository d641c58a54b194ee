"""One interruption of a run: from the first failure until the run gets further than before."""

from __future__ import annotations

from vfl.errors import (
    MismatchError,
    ModelError,
    ParameterError,
    PolicyRefusal,
    RangeError,
    VflError,
    is_retryable,
    original_code,
)
from vfl.run_records.result import Recovery
from vfl.runtime.clock import loop_time

NEED_ANOTHER_JOB = {kind.code for kind in (RangeError, ModelError, ParameterError, PolicyRefusal, MismatchError)}
"""Codes of errors that can only be fixed by changing files, after which the checkpoints cannot be used."""

FRUITLESS_ATTEMPTS = 5
"""After this many attempts with all parties present, such time counts, too: the attempts keep failing the same way."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Interruption:
    """How long the run has been interrupted, and how long it may be.

    Time in which all parties are present and catching up to where they were does not count, however long it takes.

    Args:
        error: what interrupted it.
        where: what the run was doing, in words.
        limit: allowed seconds in which not all parties are present; ``timeouts.reconnect`` of the job.

    Attributes:
        steps_lost: completed training steps that have to be repeated.
    """

    def __init__(self, error: VflError, where: str, limit: float) -> None:
        self._error = error
        self._where = where
        self._limit = limit
        self._since = loop_time()
        self._failures = 0
        self._together_since: float | None = None
        self._seconds_together = 0.0
        self._fruitless = 0
        self.steps_lost = 0

    @property
    def seconds_left(self) -> float:
        """Seconds until the run is given up, unless all parties are present before then."""
        excused = self._seconds_together if self._fruitless < FRUITLESS_ATTEMPTS else 0.0
        return max(self._limit - (loop_time() - self._since) + excused, 0.0)

    def all_are_there(self) -> None:
        """Record that all parties are working on another attempt."""
        self._together_since = loop_time()

    def failed_again(self, error: VflError, last_step: int | None) -> float:
        """Record a failure; return the seconds to wait before another attempt.

        Args:
            last_step: step of the newest checkpoint, if there is one.

        Raises:
            VflError: this error, if another attempt cannot help with it; the error that began the interruption, if that
                has lasted too long. What follows from the first error often blames parties that are well.
        """
        if self._together_since is not None:
            self._seconds_together += loop_time() - self._together_since
            self._together_since = None
            self._fruitless += 1
        if is_retryable(error) and self.seconds_left > 0:
            self._failures += 1
            return min(_FIRST_PAUSE * 2.0 ** (self._failures - 1), _LONGEST_PAUSE, self.seconds_left)
        final = self._began_with(error) if is_retryable(error) else error
        if last_step is not None and original_code(final) not in NEED_ANOTHER_JOB:
            kept = f"the checkpoint of step {last_step} is kept: 'vfl run --resume' continues from it"
            final.remedy = f"{final.remedy}; {kept}" if final.remedy else kept
        raise final

    def _began_with(self, latest: VflError) -> VflError:
        if latest.summary != self._error.summary:
            latest_text = f"the latest of the failed attempts since then: {latest.summary}"
            self._error.detail = f"{self._error.detail}\n{latest_text}" if self._error.detail else latest_text
        return self._error

    def recovery(self) -> Recovery:
        """The report on the interruption, once it is over."""
        return Recovery(self._error.summary, self._where, self.steps_lost, loop_time() - self._since)
