"""(e) Bytes per sample in each direction, and memory: the peak, and whether it stays flat over many steps."""

from __future__ import annotations

import numpy as np

from benchmarks.effort import Shape
from benchmarks.reporting.findings import Row, at_most
from benchmarks.systems.federation import ACTIVE, PASSIVE, SystemRun

MAX_BYTES = 2600.0
MAX_MEMORY_GB = 1.5
MAX_GROWTH = 0.03
"""Growth of resident memory that still counts as flat: allocators return some memory late."""


def traffic_rows(run: SystemRun, shape: Shape, *, has_target: bool) -> list[Row]:
    """Bytes of tensors per trained sample, one row per direction."""
    directions = {PASSIVE: f"{PASSIVE} (passive) to {ACTIVE}", ACTIVE: f"{ACTIVE} (active) to {PASSIVE}"}
    return [
        Row("e", f"sent by {words}, {shape}", run.bytes_per_sample[name], "bytes/sample",
            target=at_most(MAX_BYTES) if has_target else None, note="payload of messages, without gRPC and TLS framing")
        for name, words in directions.items()
    ]  # fmt: skip


def peak_rows(run: SystemRun, shape: Shape) -> list[Row]:
    """Largest resident set of each party's process, including libraries."""
    return [
        Row("e", f"peak memory of {name}, {shape}", peak / 1e9, "GB", target=at_most(MAX_MEMORY_GB),
            note=f"{run.outcome.steps} steps; of the process, including libraries")
        for name, peak in run.outcome.peak_memory.items()
    ]  # fmt: skip


def growth(resident: list[int]) -> float:
    """Median of the last fifth divided by that of the second fifth, minus 1; the first fifth is still allocating."""
    fifth = len(resident) // 5
    if not fifth:
        raise ValueError("fewer than five steps do not show whether memory grows")
    return float(np.median(resident[-fifth:]) / np.median(resident[fifth : 2 * fifth])) - 1.0


def flatness_rows(run: SystemRun, shape: Shape) -> list[Row]:
    """Growth of resident memory over the steps of a run, by party; no rows if it could not be observed."""
    return [
        Row("e", f"growth of the memory of {name} over {len(resident)} steps, {shape}", 100 * growth(resident), "%",
            target=at_most(100 * MAX_GROWTH),
            note="resident; median of the last fifth of the steps compared with the second fifth")
        for name, resident in run.resident.items()
    ]  # fmt: skip
