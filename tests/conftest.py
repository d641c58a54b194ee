"""Settings for all tests."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import structlog
import torch
from hypothesis import settings

from vfl.run_records import curves
from vfl.transport.tls.version import require_tls_1_3

require_tls_1_3()  # as the processes of the command line do

# Tests start some hundred processes. Without files of bytecode, each would compile the whole package again, and every
# worker all tests. Images of containers often turn them off.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A shell that starts the tests in the background has SIGINT ignored, and every process that they start inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Test workers and the processes they start share the machine; more threads each would only wait for one another.
torch.set_num_threads(1)
# For the same reason an example may take long; pytest's own timeout ends what hangs.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


UNCOVERED = ("integration", "fault", "attacks", "fuzz")
"""Folders of tests whose lines are not counted: counting takes a third more time, and unit tests reach nearly all."""


@pytest.hookimpl(trylast=True)  # after pytest-randomly has shuffled them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put slow tests first in the share that each worker begins with, so that no worker is left with one at the end."""
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder) and item.path.relative_to(folder).parts[0] in UNCOVERED:
            item.add_marker("no_cover")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = iter([item for item in items if not item.get_closest_marker("slow")])
    cuts = [len(items) * share // workers for share in range(1, workers + 1)]
    items.clear()
    for share, cut in enumerate(cuts):
        items += slow[share::workers]
        items += islice(others, max(0, cut - len(items)))


def pytest_collection_finish() -> None:
    """What is imported by now stays; looking through all of it for garbage takes most of a second every time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def pictures_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a sixth of a second, in hundreds of runs. Tests of pictures have a fixture of this name that draws."""
    monkeypatch.setattr(curves, "_drawn", lambda history, title: b"no picture")


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Iterator[None]:
    """A command that a test runs here sets up logging for its process: to a stream that is closed after the test."""
    logger = logging.getLogger("vfl")
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
    structlog.contextvars.clear_contextvars()
