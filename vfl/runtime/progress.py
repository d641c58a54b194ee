"""Whether a job gets on at this process: a count of its finished pieces of work, however small.

Others ask for it to tell a slow party from a stuck one, so whatever may take longer than seconds counts its pieces.
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
        """One more."""
        self.pieces = next(self._next)


_OF_NO_JOB = Progress()
_current: ContextVar[Progress] = ContextVar("_current")
"""Follows the work of a job through its tasks and ``asyncio.to_thread``, but not into the threads of an executor."""


def current_progress() -> Progress:
    """That of the job that is being worked on here; to be handed to the threads of an executor."""
    return _current.get(_OF_NO_JOB)


def count_in(progress: Progress) -> None:
    """From now on the pieces of work of this task, and of what it starts, are of this job."""
    _current.set(progress)


def piece_finished() -> None:
    """One more piece of the work of this task."""
    current_progress().piece_finished()
