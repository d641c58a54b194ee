"""Real processes that are killed before the first step or after the last, and started again."""

import pytest
from support.faults.matrix import CLINIC, Scenario, run
from support.faults.supervised import Fault
from support.federations.federation import ACTIVE, COORDINATOR

pytestmark = [pytest.mark.faults_full, pytest.mark.slow, pytest.mark.timeout(900)]

KILLS = (
    Fault(CLINIC, "prepare"),
    Fault(ACTIVE, "align"),
    Fault(COORDINATOR, "begin"),
    Fault(ACTIVE, "finish"),
    Fault(COORDINATOR, "finish"),
    (Fault(CLINIC, "release"), Fault(COORDINATOR, "release")),
)


def test_set_up_and_saving_go_on_as_if_nothing_had_been(quiet, tmp_path):
    result = run(Scenario("outside training", KILLS), quiet, tmp_path)
    assert not result.problem
    assert not any(cell.steps_lost for cell in result.cells)
