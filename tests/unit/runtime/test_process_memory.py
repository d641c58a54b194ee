"""A party's process keeps what it frees, for all of its threads together."""

import platform
import re
import subprocess
import sys

import pytest

ARENAS_OF_A_PARTY = """
import ctypes, sys
from vfl.__main__ import main

sys.argv = ["vfl", "party", "missing.toml"]
try:
    main()
except SystemExit:
    pass
assert "torch" in sys.modules and "polars" in sys.modules
assert "torchmetrics" not in sys.modules, "only the active party needs it: seconds and memory"
libc = ctypes.CDLL(None)
stdout = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""

LARGE_TENSORS = """
from pathlib import Path
from vfl.runtime.memory import keep_freed_memory

keep_freed_memory()
import torch
from vfl.he.arithmetic.compute import zeros

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if "VmRSS" in line)

before = resident()
made = zeros((2, 4, 2**20), torch.int64).fill_(1)
print(resident() - before)
del made
print(resident() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="arenas are glibc's")
def test_threads_of_the_libraries_get_no_arena_of_their_own(tmp_path):
    """Threads that come later would take them over, and each would keep what it once needed most."""
    ran = subprocess.run(
        [sys.executable, "-c", ARENAS_OF_A_PARTY], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert re.findall(r"<heap nr", ran.stdout) == ["<heap nr"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_large_tensors_return_their_memory_all_the_same(tmp_path):
    """Holes of their size get smaller pieces put into them, so that the next ones would not fit."""
    ran = subprocess.run(
        [sys.executable, "-c", LARGE_TENSORS], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    filled, dropped = map(int, ran.stdout.split())
    assert filled >= 60 * 1024
    assert dropped < 8 * 1024
