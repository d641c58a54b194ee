"""Whole recoveries by an operator: everything killed, somebody away for too long, two coordinators at once."""

import re
import signal
import time

import pytest
from support.fault_matrix import CLINIC, INSURER, Scenario, run
from support.federation import ACTIVE, COORDINATOR, PATIENCE
from support.supervised import Fault, SupervisedRun, differing, small_federation, weights

from vfl.train.run_store import RunState, RunStore

USUAL = Scenario("usual", ())
SECOND = "second-coordinator"


def _wait_for_step(running: SupervisedRun, step: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while max((done.step for done in running.steps()), default=0) < step:
        assert time.monotonic() < deadline, f"step {step} never came"
        time.sleep(0.02)


def test_a_run_that_ended_goes_on_when_all_are_started_again(quiet, tmp_path):
    federation = small_federation(tmp_path / "disturbed", deadlines={"absence": 1.0}).write()
    everybody = (*federation.names, COORDINATOR)
    with SupervisedRun(federation) as running:
        running.start()
        _wait_for_step(running, 7)
        for name in everybody:
            running.signal(name, signal.SIGKILL)
        running.wait()
        for name in everybody:
            running.restart(name)
        _wait_for_step(running, 20)

        running.signal(CLINIC, signal.SIGKILL)
        codes = running.wait()
        assert codes[COORDINATOR] == 11
        for name in (COORDINATOR, ACTIVE):
            assert codes[name] != 0
            assert re.search(rf"{CLINIC} (did not answer|went away or does not answer) at", running.output(name))
            assert re.search(r"the checkpoint of step \d+ is kept: 'vfl run --resume' goes on", running.output(name))

        for name in everybody:
            running.restart(name)
        assert set(running.wait().values()) == {0}
        steps = [step.step for step in running.steps()]
        assert len(steps) <= max(steps) + 2 * 3
    assert not differing(dict(quiet.weights(USUAL, tmp_path / "quiet")), weights(federation))


def test_a_coordinator_that_was_taken_for_dead_does_not_disturb_its_successor(quiet, tmp_path):
    federation = small_federation(tmp_path / "disturbed").write()
    with SupervisedRun(federation) as running:
        running.start()
        _wait_for_step(running, 7)
        running.signal(COORDINATOR, signal.SIGSTOP)
        running.start_command(SECOND, "run", "job.toml", "--resume", at=COORDINATOR)
        _wait_for_step(running, max(step.step for step in running.steps()) + 3)
        running.signal(COORDINATOR, signal.SIGCONT)
        codes = running.wait()
        assert (codes.pop(COORDINATOR), set(codes.values())) == (10, {0})
        assert "another coordinator has gone on with the run" in running.output(COORDINATOR)
    assert not differing(dict(quiet.weights(USUAL, tmp_path / "quiet")), weights(federation))
    with RunStore(federation.path(COORDINATOR, "runs.sqlite")) as store:
        (record,) = store.runs()
        assert (record.state, record.error) == (RunState.FINISHED, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_with_the_default_deadlines_a_dead_party_is_noticed_within_ten_seconds(tmp_path, number):
    federation = small_federation(tmp_path / "disturbed", interaction={"protocol": "oracle"}, training={"epochs": 1000})
    for name in federation.names:
        federation.parties[name]["policy"] = {"allow_unencrypted": True}
    del federation.job["deadlines"]["silence"]
    with SupervisedRun(federation.write()) as running:
        running.start()
        _wait_for_step(running, 1)
        running.signal(CLINIC, number)
        since = time.monotonic()
        running.wait_for(COORDINATOR, "interrupted")
        assert time.monotonic() - since < 10.0


def test_other_jobs_recover_too_and_from_two_deaths_at_once(quiet, tmp_path):
    """In the clear, with SGD, with layers that draw at random and keep means, with three parties."""
    two = (Fault(ACTIVE, "interaction_backward"), Fault(INSURER, "bottom_backward"))
    other = Scenario(
        "other",
        (two, Fault(COORDINATOR, "top")),
        passive=(CLINIC, INSURER),
        job={
            "interaction": {"protocol": "oracle"},
            "training": {"optimiser": {"name": "sgd", "learning_rate": 0.05}},
        },
        bottom="support.bottoms:with_dropout",
    )
    assert not run(other, quiet, tmp_path).problem
