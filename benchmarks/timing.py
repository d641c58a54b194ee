"""Timing of alternatives: in turns, so that a disturbance affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of every repeat."""

    seconds: tuple[float, ...]

    @property
    def best(self) -> float:
        """The least disturbed repeat."""
        return min(self.seconds)

    @property
    def note(self) -> str:
        """How the number was obtained, for the table."""
        return f"best of {len(self.seconds)}, slowest {max(self.seconds) / self.best:.2f} times that"


def seconds_of(action: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def side_by_side(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Call each action once unmeasured, then ``repeats`` times in turns."""
    for action in actions.values():
        action()
    rounds = [{name: seconds_of(action) for name, action in actions.items()} for _ in range(repeats)]
    return {name: Timing(tuple(measured[name] for measured in rounds)) for name in actions}
