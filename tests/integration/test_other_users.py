"""Another user of a party's machine reaches neither end of its relayed connections, and the run goes on."""

import json
import os
import subprocess
import sys

import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become another user"),
]

CLINIC = "clinic"


def _as_another_user(numbers):
    command = [sys.executable, "-m", "support.faults.other_user", *map(str, numbers)]
    here = os.pathsep.join(sys.path)
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": here}
    )


def test_another_user_reaches_nothing_of_a_party_without_a_port_and_the_run_goes_on(tmp_path):
    federation = Federation(tmp_path).put_behind(CLINIC, ACTIVE)
    federation.job["training"]["passes"] = 10
    with Processes(federation.write()) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/10")
        numbers = processes.numbers()
        attacker = _as_another_user([numbers[CLINIC], numbers[COORDINATOR], numbers[ACTIVE]])
        found = json.loads(attacker.stdout.readline())
        codes = processes.wait()
        attacked = json.loads(attacker.communicate("\n")[0])
    assert codes == dict.fromkeys(codes, 0), {name: processes.output(name) for name in codes}
    # The coordinator's and the active party's ways to clinic, and clinic's server.
    assert len(found["paths"]) == 3
    assert attacked["refused"] == found["paths"], "each was tried"
    assert found["ports"] == [federation.port(ACTIVE)], "the one port that has to be open"
    assert attacked["reached"] == [str(federation.port(ACTIVE))]
    assert attacked["connections"] > 32, "more than a server leaves open to one address"
    assert not [path for path in found["paths"] if os.path.exists(path)], "removed at the end"  # noqa: PTH110
