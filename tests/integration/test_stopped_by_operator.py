"""Real processes: Ctrl-C at any process at any moment ends all of them, and each says where it stopped."""

import os
import re
import signal

import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes

CLINIC = "clinic"
STEP = r"(bottom|interaction)_(forward|backward)|top|(mark|restore)_best"
CHECKPOINT = r"(committing )?the (first checkpoint|checkpoint of step \d+)"
HELD = """
import time

print("importing", flush=True)
time.sleep(600)
"""
"""A module whose import takes until a signal comes."""


@pytest.fixture
def long_job(federation) -> Federation:
    federation.job["training"]["passes"] = 1000
    return federation.write()


def _all_stopped(processes):
    codes = processes.wait()
    assert 0 not in codes.values(), codes
    for name in codes:
        assert "Traceback" not in processes.output(name)
    return codes


def test_coordinator_while_it_waits_for_a_party(long_job):
    with Processes(long_job) as processes:
        processes.start(ACTIVE, COORDINATOR)
        processes.wait_for(ACTIVE, "waiting for the coordinator")
        processes.wait_for(COORDINATOR, "waiting for the parties")
        processes.signal(COORDINATOR, signal.SIGINT)
        assert _all_stopped(processes)[COORDINATOR] == 15
        assert "stopped by the operator during connection to the parties" in processes.output(COORDINATOR)
        assert "stopped by the operator of the coordinator during connection" in processes.output(ACTIVE)


def test_coordinator_while_the_parties_prepare(long_job):
    with Processes(long_job) as processes:
        processes.start()
        processes.wait_for(ACTIVE, "table loaded")
        processes.signal(COORDINATOR, signal.SIGINT)
        assert _all_stopped(processes)[COORDINATOR] == 15
        where = f"preparation|alignment|weight initialization|{CHECKPOINT}|{STEP}"
        assert re.search(f"stopped by the operator during ({where})", processes.output(COORDINATOR))
        for name in (ACTIVE, CLINIC):
            stopped = f"stopped by the operator of the coordinator during ({where})"
            assert re.search(stopped, processes.output(name)), name


def test_coordinator_in_training(long_job):
    with Processes(long_job) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/1000")
        processes.signal(COORDINATOR, signal.SIGINT)
        assert _all_stopped(processes)[COORDINATOR] == 15
        where = rf"(({STEP}|scoring).*(epoch \d+|validation)|{CHECKPOINT})"
        assert re.search(f"stopped by the operator during {where}", processes.output(COORDINATOR))
        for name in (ACTIVE, CLINIC):
            assert re.search(f"stopped by the operator of the coordinator during {where}", processes.output(name))


def test_a_party_in_training(long_job):
    with Processes(long_job) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/1000")
        processes.signal(CLINIC, signal.SIGINT)
        assert _all_stopped(processes)[CLINIC] == 15
        stopped = rf"stopped by its operator during (({STEP}|score) of step \d+|{CHECKPOINT})"
        assert re.search(stopped, processes.output(CLINIC))
        for name in (ACTIVE, COORDINATOR):
            assert re.search(f"clinic: {stopped}", processes.output(name)), name


def test_processes_that_are_only_starting(long_job, tmp_path):
    # Found before the library of this name: what every command imports first, and what this one imports last.
    held = {ACTIVE: "typer", COORDINATOR: "grpc"}
    with Processes(long_job) as processes:
        for name, module in held.items():
            folder = tmp_path / f"modules of {name}"
            folder.mkdir()
            (folder / f"{module}.py").write_text(HELD, encoding="utf-8")
            path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
            processes.environment_of[name] = {"PYTHONPATH": path}
            processes.start(name)
        for name in held:
            processes.wait_for(name, "importing")
            processes.signal(name, signal.SIGINT)
        _all_stopped(processes)
        for name in held:
            assert "stopped by the operator while starting" in processes.output(name)
