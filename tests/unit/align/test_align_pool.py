"""Helper processes: the same results as without them, and none is left, however the party's process ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vfl.align import pool as pool_module
from vfl.align.curve import SmallOrderPoint, id_digests
from vfl.align.pool import BlindingPool
from vfl.errors import InternalError

HOLDER = """
import torch, time
from vfl.align import pool
pool.FEW_POINTS = 1
held = pool.BlindingPool(2)
held.blind_digests(bytes(64))
print("ready", flush=True)
while True:
    held.blind_digests(bytes(32 * 4096))
"""


@pytest.fixture
def digests(monkeypatch):
    monkeypatch.setattr(pool_module, "PIECE_POINTS", 3)
    return id_digests([str(number) for number in range(20)], "job")


def test_helpers_give_the_same_points_in_the_same_order(digests, monkeypatch):
    with BlindingPool(2) as pool:
        here = pool.blind_digests(digests)
        assert not _helpers_of(os.getpid())
        monkeypatch.setattr(pool_module, "FEW_POINTS", 1)
        assert pool.blind_digests(digests) == here
        assert len(_helpers_of(os.getpid())) == 2
        assert pool.blind_points(here) == b"".join(pool.blind_points(here[at : at + 32]) for at in range(0, 640, 32))
    assert not _helpers_of(os.getpid())
    with pool:
        assert pool.blind_digests(digests) == here  # closed, but not forgotten
    assert not _helpers_of(os.getpid())


def test_what_helpers_refuse_is_refused_and_they_continue(digests, monkeypatch):
    monkeypatch.setattr(pool_module, "FEW_POINTS", 1)
    with BlindingPool(2) as pool:
        blinded = pool.blind_digests(digests)
        with pytest.raises(SmallOrderPoint):
            pool.blind_points(blinded + bytes(32) + blinded)
        assert pool.blind_digests(digests) == blinded


def test_a_helper_that_is_killed_is_an_error_and_not_a_hang(digests, monkeypatch):
    monkeypatch.setattr(pool_module, "FEW_POINTS", 1)
    with BlindingPool(1) as pool:
        pool.blind_digests(digests)
        (helper,) = _helpers_of(os.getpid())
        os.kill(helper, signal.SIGKILL)
        with pytest.raises(InternalError, match="helper process of the alignment ended early"):
            pool.blind_digests(digests)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_helper_outlives_a_process_that_is_killed_while_they_work(number):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout.readline() == "ready\n"
        helpers = _helpers_of(holder.pid)
        assert len(helpers) == 2
        holder.send_signal(number)
        holder.wait(10)
        deadline = time.monotonic() + 10
        while any(_alive(helper) for helper in helpers) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(_alive(helper) for helper in helpers)
        assert not holder.stderr.read()


def test_ctrl_c_at_the_terminal_is_left_to_the_partys_process():
    """The terminal sends SIGINT to the whole group; helpers go on until their input ends, and say nothing."""
    survive = "import signal; signal.signal(signal.SIGINT, lambda *_: None)"
    with subprocess.Popen(
        [sys.executable, "-c", survive + HOLDER.replace("while True:", "for _ in range(3):")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as holder:
        assert holder.stdout.readline() == "ready\n"
        assert len(_helpers_of(holder.pid)) == 2
        os.killpg(holder.pid, signal.SIGINT)
        assert holder.wait(20) == 0
        assert not holder.stderr.read()


def _helpers_of(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            status = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            command = (entry / "cmdline").read_bytes()
        except OSError:
            continue  # it has just ended
        if int(status[1]) == parent and status[0] != "Z" and b"vfl.align.worker" in command:
            found.append(int(entry.name))
    return found


def _alive(process: int) -> bool:
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
