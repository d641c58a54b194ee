"""Reproducible initial weights that leave the caller's random state alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

torch_lock = threading.RLock()
"""Held while torch's process-wide generator or number of threads is another than the process's own."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, torch's CPU generator starts at ``seed``; afterwards it is where it was before.

    Models are built on the CPU and moved to a device later, so that the same seed gives the same weights everywhere
    and generators of accelerators are never touched. One thread at a time: the generator is the whole process's, and
    jobs that are served at once must not draw from each other's.
    """
    with torch_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
