"""Real processes that do not answer for a while: longer than ``timeouts.heartbeat``, or only a moment."""

import signal
import time

import pytest
from support.faults.matrix import CLINIC, Scenario, run
from support.faults.supervised import SILENCE, Fault, Kind, SupervisedRun, small_federation
from support.federations.federation import ACTIVE, COORDINATOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

FAULTS = (
    Fault(CLINIC, "top", Kind.SLOW),
    Fault(ACTIVE, "checkpoint", Kind.SLOW),
    Fault(COORDINATOR, "interaction_forward", Kind.SLOW),
    Fault(CLINIC, "interaction_backward", Kind.STOP),
    Fault(ACTIVE, "interaction_forward", Kind.STOP),
    Fault(COORDINATOR, "commit", Kind.STOP),
)


@pytest.mark.faults_full
def test_training_goes_on_and_a_moment_costs_nothing(quiet, tmp_path):
    result = run(Scenario("stopped", FAULTS), quiet, tmp_path)
    assert not result.problem


def test_with_the_default_deadlines_a_dead_party_is_noticed_within_ten_seconds(tmp_path):
    federation = small_federation(tmp_path / "disturbed", training={"passes": 1000})
    del federation.job["timeouts"]["heartbeat"]
    with SupervisedRun(federation.write()) as running:
        running.start()
        running.wait_for_step(1)
        assert _noticed(running, signal.SIGSTOP) < 10.0
        running.signal(CLINIC, signal.SIGCONT)
        running.wait_for(COORDINATOR, "recovered")
        assert _noticed(running, signal.SIGKILL) < 2.0


def test_a_party_that_is_gone_while_it_loads_its_table_is_noticed_as_soon(tmp_path):
    federation = small_federation(tmp_path / "disturbed", training={"passes": 1}).write()
    with SupervisedRun(federation) as running:
        running.through([Fault(CLINIC, "prepare", Kind.STOP)])
        assert f"{CLINIC} did not answer for {SILENCE:g} s" in running.output(COORDINATOR)


def _noticed(running: SupervisedRun, number: signal.Signals) -> float:
    """Seconds from the signal to the passive party until the coordinator says so."""
    known = running.output(COORDINATOR).count("interrupted")
    running.signal(CLINIC, number)
    since = time.monotonic()
    while running.output(COORDINATOR).count("interrupted") == known and time.monotonic() < since + 60:
        time.sleep(0.02)
    return time.monotonic() - since
