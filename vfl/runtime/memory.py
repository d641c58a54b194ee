"""This process's memory: how much it has used, and how to keep freed memory for reuse."""

from __future__ import annotations

import contextlib
import ctypes
import re
import resource
import sys
from pathlib import Path


def peak_memory_bytes() -> int:
    """Peak resident set size of this process."""
    try:
        # The value from getrusage includes the process that started this one.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return 1024 * int(re.findall(r"^VmHWM:\s*(\d+) kB", status, re.MULTILINE)[0])
    except (OSError, IndexError):
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def available_memory_bytes() -> int | None:
    """Memory that this process may still take without swapping or being killed; None where the system does not say."""
    found = []
    with contextlib.suppress(OSError, IndexError):
        meminfo = Path("/proc/meminfo").read_text(encoding="ascii")
        found.append(1024 * int(re.findall(r"^MemAvailable:\s*(\d+) kB", meminfo, re.MULTILINE)[0]))
    with contextlib.suppress(OSError, ValueError):  # "max": the group has no limit
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text(encoding="ascii")) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    return min(found, default=None)


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_LARGEST_BLOCK = 1 << 30


def keep_freed_memory() -> None:
    """Have the allocator reuse freed blocks instead of returning them to the system.

    Ciphertext arithmetic constantly allocates and frees blocks of about a megabyte. If glibc maps each block anew, the
    page faults cost more than the arithmetic. All threads share one arena: work moves from thread to thread, and
    separate arenas would each keep their own peak. Call this before importing torch, polars and similar libraries: they
    start threads, whose arenas other threads reuse later. Without glibc this does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, 2 * _LARGEST_BLOCK - 1)
