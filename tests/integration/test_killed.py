"""Real processes: when one is killed and nobody starts it again, the others name it, keep their checkpoint and end."""

import re
import signal

import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Processes

CLINIC = "clinic"


@pytest.fixture
def training(federation):
    """A job in its training, with short patience for whoever is absent."""
    federation.job["training"]["passes"] = 1000
    federation.job["timeouts"] |= {"heartbeat": 3.0, "reconnect": 2.0}
    with Processes(federation.write()) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/1000")
        yield processes


def test_parties_end_by_themselves_when_the_coordinator_was_killed(training):
    training.signal(COORDINATOR, signal.SIGKILL)
    codes = training.wait()
    for name in (ACTIVE, CLINIC):
        assert codes[name] == 11
        assert "the coordinator did not call within 5 s after " in training.output(name)
        assert "check its log for why it stopped" in training.output(name)
        assert "'vfl run --resume' continues from the last checkpoint" in training.output(name)


@pytest.mark.parametrize(("killed", "other"), [(CLINIC, ACTIVE), (ACTIVE, CLINIC)])
def test_a_killed_party_is_named_by_all_others(training, killed, other):
    training.signal(killed, signal.SIGKILL)
    codes, endpoint = training.wait(), f"127.0.0.1:{training.federation.port(killed)}"
    for name in (COORDINATOR, other):
        assert codes[name] not in (0, 1)
        # The error that began it: a connection that broke in a call, or that could not be made for the next one.
        assert re.search(f"{killed} (went away or does not answer|did not answer) at {endpoint}", training.output(name))
        assert f"start {killed} there" in training.output(name)
        assert re.search(r"the checkpoint of step \d+ is kept: 'vfl run --resume' continues", training.output(name))
        assert "Traceback" not in training.output(name)
