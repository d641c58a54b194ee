"""Runs a party's own code: whatever it raises is an error of that party's model, and no bug of vfl.

A bare ``SystemExit`` or ``StopIteration`` from a thread would end the process, or leave everybody waiting for it.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vfl.errors import ModelError

_NOT_THE_USERS = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "<frozen ")
"""Beginnings of the paths of vfl, torch and Python's import system."""
_SHOWN_FRAMES = 5


@contextmanager
def own_code(doing: str, remedy: str = "correct the module named in this party's log") -> Iterator[None]:
    """Run code that a party brought.

    Args:
        doing: when it ran, as the end of a sentence; like the remedy, it may cross to other organizations.

    Raises:
        ModelError: the code raised anything but Ctrl-C. Its text, file and line are for this party's operator only.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise ModelError(
            f"this party's own bottom model raised an exception {doing}", detail=_described(error), remedy=remedy
        ) from error


def _described(error: BaseException) -> str:
    """The exception, and the lines of the user's code that led to it, the innermost last."""
    places = [
        f"{frame.filename}, line {frame.lineno}, in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THE_USERS)
    ]
    if isinstance(error, SyntaxError):
        places.append(f"{error.filename}, line {error.lineno}")
    return "\n".join([f"{type(error).__name__}: {error}", *(f"  at {place}" for place in places[-_SHOWN_FRAMES:])])
