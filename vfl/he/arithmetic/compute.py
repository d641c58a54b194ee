"""Where ciphertext arithmetic runs: independent pieces on several cores, matrix and transform kernels on any device.

Threads suffice: the arithmetic runs in torch, numpy and the stream cipher, which release the interpreter lock. Torch's
own threads are not changed; splitting single small operations gains nothing. Both settings apply to the whole process,
like torch's own.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import torch

from vfl.runtime.progress import Progress, current_progress

Item = TypeVar("Item")
Result = TypeVar("Result")

_MAPPED_BYTES = 4 * 2**20

_pool: ThreadPoolExecutor | None = None
_device = torch.device("cpu")


def use_threads(count: int) -> None:
    """Set how many threads ``spread`` uses from now on; 1 works in the calling thread."""
    global _pool
    previous, _pool = _pool, ThreadPoolExecutor(count, "ciphertexts") if count > 1 else None
    if previous is not None:
        previous.shutdown(wait=False)


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item, in order. ``work`` must not call ``spread`` with more than one item itself."""
    items, counted = list(items), partial(_counted, current_progress(), work)
    if _pool is None or len(items) < 2:
        return [counted(item) for item in items]
    return list(_pool.map(counted, items))


def _counted(progress: Progress, work: Callable[[Item], Result], item: Item) -> Result:
    result = work(item)
    progress.piece_finished()
    return result


def use_device(name: str) -> None:
    """Set the torch device of the matrix and transform kernels from now on. Everything secret is drawn on the CPU.

    Raises:
        RuntimeError: torch has no such device, or it lacks float64.
    """
    global _device
    torch.zeros(1, dtype=torch.complex128, device=name)
    _device = torch.device(name)


def kernel_device() -> torch.device:
    """The device of the kernels."""
    return _device


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
