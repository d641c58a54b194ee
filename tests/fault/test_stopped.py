"""Real processes that do not answer for a while: longer than ``deadlines.silence``, or only a moment."""

from support.fault_matrix import CLINIC, Scenario, run
from support.federation import ACTIVE, COORDINATOR
from support.supervised import Fault, Kind

FAULTS = (
    Fault(CLINIC, "top", Kind.SLOW),
    Fault(ACTIVE, "checkpoint", Kind.SLOW),
    Fault(COORDINATOR, "interaction_forward", Kind.SLOW),
    Fault(CLINIC, "interaction_backward", Kind.STOP),
    Fault(ACTIVE, "interaction_forward", Kind.STOP),
    Fault(COORDINATOR, "commit", Kind.STOP),
)


def test_training_goes_on_and_a_moment_costs_nothing(quiet, tmp_path):
    result = run(Scenario("stopped", FAULTS), quiet, tmp_path)
    assert not result.problem
