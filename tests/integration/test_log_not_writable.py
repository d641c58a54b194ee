"""Real processes whose log cannot be written: they work, and end when they are asked to."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from support.federations.preloaded import start

from vfl.configuration.federation import parse_endpoint
from vfl.errors import ProcessEnding
from vfl.party.config import load_party

STARTS_WITHIN, ENDS_WITHIN = 120, 10
UNWRITABLE = {"closed": "2>&-", "full disk": "2>/dev/full"}


def _started(arguments, stderr):
    shell = f'exec "$0" -m vfl "$@" {stderr} >&-'
    return subprocess.Popen(["sh", "-c", shell, sys.executable, *map(str, arguments)], start_new_session=True)


def _wait_until_it_listens(process, port):
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        assert process.poll() is None
        assert time.monotonic() < deadline
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return


def _port(federation, name):
    return parse_endpoint(load_party(federation.path(name)).entry.endpoint).port


@pytest.mark.slow
@pytest.mark.parametrize("fault", [*UNWRITABLE, "broken pipe"])
def test_a_waiting_party_ends_when_its_process_is_to_end(federation, fault):
    federation.write()
    arguments = ["party", federation.path(ACTIVE), "--verbose"]
    if fault == "broken pipe":
        read, write = os.pipe()
        os.close(read)
        process = subprocess.Popen(
            [sys.executable, "-m", "vfl", *map(str, arguments)], stderr=write, start_new_session=True
        )
        os.close(write)
    else:
        process = _started(arguments, UNWRITABLE[fault])
    try:
        _wait_until_it_listens(process, _port(federation, ACTIVE))
        process.send_signal(signal.SIGTERM)
        assert process.wait(ENDS_WITHIN) == ProcessEnding.exit_code
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("fault", UNWRITABLE)
def test_a_run_of_processes_without_logs_finishes(federation, fault, tmp_path):
    federation.job["training"]["passes"] = 1
    federation.write()
    report = tmp_path / "report.json"
    commands = [["party", str(federation.path(name))] for name in federation.names]
    commands.append(["run", str(federation.path(COORDINATOR, "job.toml")), "--report", str(report)])
    log = Path("/dev/full") if fault == "full disk" else None
    processes = [start("vfl", command, os.environ, log, silent=True) for command in commands]
    try:
        assert [process.wait(STARTS_WITHIN) for process in processes] == [0] * len(processes)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert json.loads(report.read_text())["test"]
