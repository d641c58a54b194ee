"""Real processes: when one is killed, the others notice by themselves, name it and end."""

import signal

import pytest
from support.federation import ACTIVE, COORDINATOR, Processes

CLINIC = "clinic"


@pytest.fixture
def training(federation):
    """A job in its training, with short patience of the parties for a silent coordinator."""
    federation.job["training"]["epochs"] = 1000
    federation.job["deadlines"]["phase"] = 12.0
    with Processes(federation.write()) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/1000")
        yield processes


def test_parties_end_by_themselves_when_the_coordinator_was_killed(training):
    training.signal(COORDINATOR, signal.SIGKILL)
    codes = training.wait()
    for name in (ACTIVE, CLINIC):
        assert codes[name] == 11
        assert "the coordinator did not call within 12 s after " in training.output(name)
        assert "look into its log for why it stopped" in training.output(name)


@pytest.mark.parametrize(("killed", "other"), [(CLINIC, ACTIVE), (ACTIVE, CLINIC)])
def test_a_killed_party_is_named_by_all_others(training, killed, other):
    training.signal(killed, signal.SIGKILL)
    codes = training.wait()
    for name in (COORDINATOR, other):
        assert codes[name] not in (0, 1)
        endpoint = f"127.0.0.1:{training.federation.port(killed)}"
        assert f"{killed} went away or does not answer at {endpoint}" in training.output(name)
        assert f"start {killed} there" in training.output(name)
        assert "Traceback" not in training.output(name)
