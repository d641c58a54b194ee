"""Where ciphertext arithmetic runs: independent pieces on several cores, matrix and transform kernels on any device.

Threads suffice: the arithmetic runs in torch, numpy and the stream cipher, which release the interpreter lock. Torch's
own threads are not changed; splitting single small operations gains nothing. Both settings are those of the task that
sets them and of what it starts, so that parties in one process do not disturb each other.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch

from vfl.runtime.progress import Progress, current_progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAPPED_BYTES = 4 * 2**20


@dataclass(frozen=True)
class _Compute:
    pool: ThreadPoolExecutor | None
    device: torch.device


_ALONE_ON_CPU = _Compute(None, torch.device("cpu"))
_current: ContextVar[_Compute] = ContextVar("_current")


@contextmanager
def computing(threads: int, device: str) -> Iterator[None]:
    """Compute with these settings within the block, and in tasks and ``asyncio.to_thread`` threads started there.

    Args:
        threads: how many ``spread`` uses; 1 works in the calling thread.
        device: torch device of the matrix and transform kernels. Everything secret is drawn on the CPU.

    Raises:
        RuntimeError: torch has no such device, or it lacks float64.
    """
    torch.zeros(1, dtype=torch.complex128, device=device)
    pool = ThreadPoolExecutor(threads, "ciphertexts") if threads > 1 else None
    token = _current.set(_Compute(pool, torch.device(device)))
    try:
        yield
    finally:
        _current.reset(token)
        if pool is not None:
            pool.shutdown(wait=False)


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item, in order. ``work`` must not call ``spread`` with more than one item itself."""
    compute = _current.get(_ALONE_ON_CPU)
    items, counted = list(items), partial(_counted, current_progress(), compute.device, work)
    if compute.pool is None or len(items) < 2:
        return [counted(item) for item in items]
    return list(compute.pool.map(counted, items))


def _counted(progress: Progress, device: torch.device, work: Callable[[Item], Result], item: Item) -> Result:
    token = _current.set(_Compute(None, device))  # a thread of the pool does not know whose work it does
    try:
        result = work(item)
    finally:
        _current.reset(token)
    progress.piece_finished()
    return result


def kernel_device() -> torch.device:
    """The device of the kernels."""
    return _current.get(_ALONE_ON_CPU).device


def zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | None = None) -> torch.Tensor:
    """A tensor of zeros, on the CPU unless ``device`` says otherwise.

    Large tensors are separate memory mappings, in huge pages if the system has them: a process that keeps freed memory
    (``vfl.runtime.memory``) would have to find a hole of that size each time, and would grow over many steps if smaller
    blocks have been placed in the previous one.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < _MAPPED_BYTES or (device is not None and device.type != "cpu"):
        return torch.zeros(shape, dtype=dtype, device=device)
    mapping = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(mapping, dtype=dtype).view(shape)
