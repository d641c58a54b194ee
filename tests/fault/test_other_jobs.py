"""What the usual job of these tests is not: in the clear, with SGD, dropout and running means, with three parties."""

import pytest
from support.faults.matrix import CLINIC, INSURER, Scenario, run
from support.faults.supervised import Fault
from support.federations.federation import ACTIVE, COORDINATOR

pytestmark = [pytest.mark.faults_full, pytest.mark.slow, pytest.mark.timeout(900)]


def test_another_job_recovers_too_and_from_two_deaths_at_once(quiet, tmp_path):
    two = (Fault(ACTIVE, "interaction_backward"), Fault(INSURER, "bottom_backward"))
    other = Scenario(
        "other",
        (two, Fault(COORDINATOR, "top")),
        passive=(CLINIC, INSURER),
        job={
            "interaction": {"protocol": "plaintext"},
            "training": {"optimizer": {"name": "sgd", "learning_rate": 0.05}},
        },
        bottom="support.federations.bottoms:with_dropout",
    )
    assert not run(other, quiet, tmp_path).problem
