"""The number of torch threads that a party's models use, without a lasting change to the process they run in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from vfl.models.seeding import torch_lock

_threads: ContextVar[int | None] = ContextVar("_threads", default=None)
"""Follows a party's work through its tasks and ``asyncio.to_thread``."""


def use_model_threads(count: int) -> None:
    """From now on ``model_arithmetic`` uses this many threads, in this task and in the tasks and threads it starts."""
    _threads.set(count)


@contextmanager
def model_arithmetic() -> Iterator[None]:
    """Context in which a party's models run their forward and backward passes.

    The number of threads determines the order in which torch adds, and so the last bits of a sum: the same job gives
    the same weights only with the same number of threads. Torch's setting applies to the whole process, so it is
    restored afterward, and only one party of a process computes at a time.
    """
    count = _threads.get()
    if count is None:
        yield
        return
    with torch_threads(count):
        yield


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within the block, torch uses this many threads; no other party of the process computes meanwhile."""
    with torch_lock:
        before = torch.get_num_threads()
        if before != count:
            torch.set_num_threads(count)
        try:
            yield
        finally:
            if before != count:
                torch.set_num_threads(before)
