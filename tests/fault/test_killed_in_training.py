"""Real processes that are killed in the middle of a step, of a checkpoint or of another recovery, and started again."""

import pytest
from support.faults.matrix import CLINIC, Scenario, run
from support.faults.supervised import Fault
from support.federations.federation import ACTIVE, COORDINATOR

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = (
    Fault(CLINIC, "interaction_forward", occurrence=8),
    Fault(ACTIVE, "interaction_backward"),
    Fault(COORDINATOR, "checkpoint"),
    Fault(CLINIC, "checkpoint"),
    (Fault(CLINIC, "bottom_backward"), Fault(ACTIVE, "realign")),
    (Fault(ACTIVE, "commit"), Fault(COORDINATOR, "commit")),
)

STAGEWISE = (
    Fault(ACTIVE, "residuals"),
    Fault(CLINIC, "weight_step"),
    Fault(COORDINATOR, "keep"),
    Fault(ACTIVE, "local_epoch"),
)


def test_training_goes_on_as_if_nothing_had_been(quiet, tmp_path):
    job = {"training": {"passes": 4}}  # some steps more than the faults need
    result = run(Scenario("in training", KILLS, job=job), quiet, tmp_path)
    assert not result.problem
    # Since the first checkpoint, which is made before the first step, every third step has one.
    assert max(cell.steps_lost for cell in result.cells) <= 3


def test_so_does_stagewise_training(quiet, tmp_path):
    job = {"training": {"passes": 2, "local_epochs": 5}}
    result = run(Scenario("stagewise", STAGEWISE, job=job, stagewise=True), quiet, tmp_path)
    assert not result.problem
