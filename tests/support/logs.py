"""What the package logs, as dictionaries."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vfl.runtime.logs import ROOT


class _Keep(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.events: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        event = dict(record.msg) if isinstance(record.msg, dict) else {"event": record.getMessage()}
        self.events.append({**event, "log_level": event.get("level", record.levelname.lower())})


@contextmanager
def captured_logs(level: int = logging.INFO) -> Iterator[list[dict[str, Any]]]:
    """Events of this level and above that are logged inside, in order."""
    logger, keep = logging.getLogger(ROOT), _Keep()
    before = logger.level
    logger.addHandler(keep)
    logger.setLevel(level)
    try:
        yield keep.events
    finally:
        logger.removeHandler(keep)
        logger.setLevel(before)


def logged(events: list[dict[str, Any]]) -> str:
    """All that was logged, as text."""
    return "\n".join(" ".join(f"{name}={value}" for name, value in event.items()) for event in events)
