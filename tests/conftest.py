"""Settings for all tests."""

import logging
import os
import sys
from collections.abc import Iterator

import pytest
import structlog
import torch
from hypothesis import settings

from vfl.transport.tls.version import require_tls_1_3

require_tls_1_3()  # as the processes of the command line do

# Tests start some hundred processes. Without files of bytecode, each would compile the whole package again, and every
# worker all tests. Images of containers often turn them off.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Test workers and the processes they start share the machine; more threads each would only wait for one another.
torch.set_num_threads(1)
# For the same reason an example may take long; pytest's own timeout ends what hangs.
settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def logs_go_where_they_went() -> Iterator[None]:
    """A command that a test runs here sets up logging for its process: to a stream that is closed after the test."""
    logger = logging.getLogger("vfl")
    handlers, propagate, level = logger.handlers, logger.propagate, logger.level
    yield
    logger.handlers, logger.propagate = handlers, propagate
    logger.setLevel(level)
    structlog.contextvars.clear_contextvars()
