"""Whether this process gets on: a count of finished pieces of work, however small.

Others ask for it to tell a slow party from a stuck one, so whatever may take longer than seconds counts its pieces.
"""

from __future__ import annotations

import itertools

_finished = itertools.count()
_seen = 0


def piece_finished() -> None:
    """One more; from any thread."""
    global _seen
    _seen = next(_finished) + 1


def pieces_finished() -> int:
    """So many since the process started."""
    return _seen
