import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from rich.console import Console
from support.federations.federation import Federation

import vfl.cli.failures
from vfl.runtime.logs import ROOT


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture(autouse=True)
def own_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands configure logs and Ctrl-C for a whole process; other tests get theirs back."""
    monkeypatch.setenv("COLUMNS", "1000")
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
    logger = logging.getLogger(ROOT)
    logger.handlers, logger.propagate = [logging.NullHandler()], True
    logger.setLevel(logging.NOTSET)
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def _errors_in_one_line(monkeypatch):
    """A narrow terminal would break the sentences that tests look for."""
    monkeypatch.setattr(vfl.cli.failures, "errors_console", Console(stderr=True, width=1000))
