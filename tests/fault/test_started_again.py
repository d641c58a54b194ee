"""An operator starts everything again, or a second coordinator while the first is only stopped."""

import signal
from contextlib import contextmanager

import pytest
from support.faults.matrix import CLINIC, Scenario
from support.faults.supervised import SupervisedRun, small_federation
from support.federations.federation import ACTIVE, COORDINATOR, differing

from vfl.errors import PeerUnreachable
from vfl.run_records.store import RunState, RunStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

JOB = {"training": {"passes": 3}}
SHORT = Scenario("short", (), job=JOB)
EVERYBODY = (ACTIVE, CLINIC, COORDINATOR)
SECOND = "second-coordinator"


@contextmanager
def in_training(quiet, folder, **timeouts):
    """A run that has come to its seventh step; when it is over, its weights are those of a quiet run."""
    federation = small_federation(folder / "disturbed", timeouts=timeouts, **JOB).write()
    with SupervisedRun(federation) as running:
        running.start()
        running.wait_for_step(7)
        yield running
    assert not differing(quiet.weights(SHORT, folder / "quiet"), federation.everything_saved())


def all_finish(running):
    assert set(running.wait().values()) == {0}


def test_a_run_goes_on_when_all_were_killed_and_started_again(quiet, tmp_path):
    with in_training(quiet, tmp_path) as running:
        for name in EVERYBODY:
            running.signal(name, signal.SIGKILL)
        running.wait()
        for name in EVERYBODY:
            running.restart(name)
        all_finish(running)
        steps = [step.step for step in running.steps()]
        assert len(steps) <= max(steps) + 3


def test_a_party_whose_machine_restarts_in_an_orderly_way_interrupts_the_run_only(quiet, tmp_path):
    with in_training(quiet, tmp_path) as running:
        running.signal(CLINIC, signal.SIGTERM)
        running.wait_killed(CLINIC)
        assert running.ended() == {CLINIC: 143}
        running.restart(CLINIC)
        all_finish(running)
        assert f"{CLINIC}: its process was shut down during" in running.output(COORDINATOR)


@pytest.mark.faults_full
def test_a_run_that_a_party_stayed_away_from_goes_on_from_its_checkpoint_when_all_are_started_again(quiet, tmp_path):
    with in_training(quiet, tmp_path, reconnect=1.0) as running:
        running.signal(CLINIC, signal.SIGKILL)
        codes = running.wait()
        assert codes[COORDINATOR] == PeerUnreachable.exit_code
        assert "'vfl run --resume' continues from it" in running.output(COORDINATOR)
        for name in EVERYBODY:
            running.restart(name)
        all_finish(running)


@pytest.mark.faults_full
def test_a_coordinator_that_was_taken_for_dead_does_not_disturb_its_successor(quiet, tmp_path):
    with in_training(quiet, tmp_path) as running:
        running.signal(COORDINATOR, signal.SIGSTOP)
        running.start_command(SECOND, "run", "job.toml", "--resume", at=COORDINATOR)
        running.wait_for_step(max(step.step for step in running.steps()) + 3)
        running.signal(COORDINATOR, signal.SIGCONT)
        codes = running.wait()
        assert (codes.pop(COORDINATOR), set(codes.values())) == (10, {0})
        assert "another coordinator has taken over the run" in running.output(COORDINATOR)
        with RunStore(running.federation.path(COORDINATOR, "runs.sqlite")) as store:
            (record,) = store.runs()
            assert (record.state, record.error) == (RunState.FINISHED, "")
