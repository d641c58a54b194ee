"""Reproducible initial weights, without changing the caller's random state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

torch_lock = threading.RLock()
"""Held while torch's process-wide generator or number of threads is not the process's own."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, torch's CPU generator starts at ``seed``; afterward its previous state is restored.

    Models are built on the CPU and moved to a device later, so the same seed gives the same weights everywhere and
    generators of accelerators are never used. One thread at a time: the generator belongs to the whole process, and
    jobs served at the same time must not draw from each other's sequences.
    """
    with torch_lock, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
