"""An operator starts everything again, or a second coordinator while the first is only stopped."""

import signal

import pytest
from support.fault_matrix import CLINIC, Scenario
from support.federation import COORDINATOR, differing
from support.supervised import SupervisedRun, small_federation

from vfl.train.run_store import RunState, RunStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

USUAL = Scenario("usual", ())
SECOND = "second-coordinator"


def test_a_run_goes_on_when_all_were_killed_and_started_again(quiet, tmp_path):
    federation = small_federation(tmp_path / "disturbed").write()
    everybody = (*federation.names, COORDINATOR)
    with SupervisedRun(federation) as running:
        running.start()
        running.wait_for_step(7)
        for name in everybody:
            running.signal(name, signal.SIGKILL)
        running.wait()
        for name in everybody:
            running.restart(name)
        assert set(running.wait().values()) == {0}
        steps = [step.step for step in running.steps()]
        assert len(steps) <= max(steps) + 3
    assert not differing(quiet.weights(USUAL, tmp_path / "quiet"), federation.everything_saved())


def test_a_party_whose_machine_restarts_in_an_orderly_way_interrupts_the_run_only(quiet, tmp_path):
    federation = small_federation(tmp_path / "disturbed").write()
    with SupervisedRun(federation) as running:
        running.start()
        running.wait_for_step(7)
        running.signal(CLINIC, signal.SIGTERM)
        running.wait_killed(CLINIC)
        assert running.ended() == {CLINIC: 143}
        running.restart(CLINIC)
        assert set(running.wait().values()) == {0}
        assert f"{CLINIC}: its process was told to end during" in running.output(COORDINATOR)
    assert not differing(quiet.weights(USUAL, tmp_path / "quiet"), federation.everything_saved())


@pytest.mark.faults_full
def test_a_coordinator_that_was_taken_for_dead_does_not_disturb_its_successor(quiet, tmp_path):
    federation = small_federation(tmp_path / "disturbed").write()
    with SupervisedRun(federation) as running:
        running.start()
        running.wait_for_step(7)
        running.signal(COORDINATOR, signal.SIGSTOP)
        running.start_command(SECOND, "run", "job.toml", "--resume", at=COORDINATOR)
        running.wait_for_step(max(step.step for step in running.steps()) + 3)
        running.signal(COORDINATOR, signal.SIGCONT)
        codes = running.wait()
        assert (codes.pop(COORDINATOR), set(codes.values())) == (10, {0})
        assert "another coordinator has gone on with the run" in running.output(COORDINATOR)
    assert not differing(quiet.weights(USUAL, tmp_path / "quiet"), federation.everything_saved())
    with RunStore(federation.path(COORDINATOR, "runs.sqlite")) as store:
        (record,) = store.runs()
        assert (record.state, record.error) == (RunState.FINISHED, "")
