"""Whether a run makes progress in this process: a count of finished pieces of work, however small.

The count distinguishes a slow party from a stuck one, so any work that may take more than a few seconds counts pieces.
"""

from __future__ import annotations

import itertools
from contextvars import ContextVar


class Progress:
    """Counts pieces of work, from any thread."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self.pieces = 0

    def piece_finished(self) -> None:
        """Count a piece."""
        self.pieces = next(self._next)


_OUTSIDE_RUNS = Progress()
_current: ContextVar[Progress] = ContextVar("_current")
"""Follows the work of a run through its tasks and ``asyncio.to_thread``, but not into the threads of an executor."""


def current_progress() -> Progress:
    """The progress of the run that this task works on. Pass it to the threads of an executor."""
    return _current.get(_OUTSIDE_RUNS)


def count_in(progress: Progress) -> None:
    """From now on, count the work of this task, and of tasks that it starts, in ``progress``."""
    _current.set(progress)


def piece_finished() -> None:
    """Count a finished piece of this task's work."""
    current_progress().piece_finished()
