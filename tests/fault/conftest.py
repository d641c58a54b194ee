import logging

import pytest
from support.faults.matrix import Quiet
from support.logs import captured_logs


@pytest.fixture(scope="session")
def quiet() -> Quiet:
    return Quiet()


@pytest.fixture
def logs():
    """What the package logs in this process, debugging events too."""
    with captured_logs(logging.DEBUG) as events:
        yield events
