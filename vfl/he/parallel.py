"""Independent pieces of ciphertext arithmetic on several cores.

Threads suffice: the arithmetic runs in torch, numpy and the stream cipher, which release the interpreter lock. Torch's
own threads are left alone; splitting single small operations gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_pool: ThreadPoolExecutor | None = None


def use_threads(count: int) -> None:
    """Set how many threads ``spread`` uses from now on, for the whole process; 1 works in the calling thread."""
    global _pool  # one pool a process, like torch's own
    previous, _pool = _pool, ThreadPoolExecutor(count, "ciphertexts") if count > 1 else None
    if previous is not None:
        previous.shutdown(wait=False)


def spread(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """``work`` of every item, in order. ``work`` must not call ``spread`` with more than one item itself."""
    items = list(items)
    if _pool is None or len(items) < 2:
        return [work(item) for item in items]
    return list(_pool.map(work, items))
