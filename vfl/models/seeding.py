"""Reproducible initial weights that leave the caller's random state alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within the block, torch's CPU generator starts at ``seed``; afterwards it is where it was before.

    Models are built on the CPU and moved to a device later, so that the same seed gives the same weights everywhere
    and generators of accelerators are never touched.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
