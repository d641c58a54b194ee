"""Random material prepared while the process waits, so that there is less to do when a message arrives.

A pool never hands out an item twice. Items that it does not hold are made on the spot, so its fill level affects
only the time, not the results.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from vfl.he.arithmetic.compute import spread

Item = TypeVar("Item")


class Pool(Generic[Item]):
    """A store of items of one kind. Create it with ``Pools.pool``."""

    def __init__(self, make: Callable[[], Item], item_bytes: int, lock: threading.Lock) -> None:
        self._make = make
        self._lock = lock
        self._items: deque[Item] = deque()
        self.item_bytes = item_bytes
        self._wanted = 0

    def expect(self, count: int) -> None:
        """Announce how many items one step needs; the pool is filled up to the largest number announced."""
        self._wanted = max(self._wanted, count)

    def take(self, count: int) -> list[Item]:
        """``count`` items, each handed out once: first those in the pool, then new ones."""
        with self._lock:
            ready = [self._items.popleft() for _ in range(min(count, len(self._items)))]
        return ready + spread(lambda _: self._make(), range(count - len(ready)))

    @property
    def missing(self) -> int:
        """Number of items missing until the pool is full."""
        return max(0, self._wanted - len(self._items))

    def add_one(self) -> None:
        """Make an item and store it."""
        item = self._make()
        with self._lock:
            self._items.append(item)

    def clear(self) -> int:
        """Drop all items; return how many there were."""
        with self._lock:
            dropped = len(self._items)
            self._items.clear()
        return dropped

    def __len__(self) -> int:
        return len(self._items)


class Pools:
    """All pools of one attempt at one party, within one bound on memory.

    Args:
        budget_bytes: bound on what the pools hold; with 0 they hold nothing, and everything is made when needed.
    """

    def __init__(self, budget_bytes: int = 0) -> None:
        self._budget_bytes = budget_bytes
        self._lock = threading.Lock()
        self._pools: list[Pool[Any]] = []
        self._closed = threading.Event()

    def pool(self, make: Callable[[], Item], item_bytes: int) -> Pool[Item]:
        """A new, empty pool of items that ``make`` makes, each of about ``item_bytes``."""
        made = Pool(make, item_bytes, self._lock)
        self._pools.append(made)
        return made

    @property
    def stored_bytes(self) -> int:
        """Bytes that all pools hold."""
        return sum(len(pool) * pool.item_bytes for pool in self._pools)

    def fill_one(self) -> bool:
        """Make one item for the pool that lacks most; return False if nothing is missing or there is no room.

        Called by one thread at a time; takes a few milliseconds.
        """
        pool = max(self._pools, key=lambda pool: pool.missing, default=None)
        if self._closed.is_set() or pool is None or not pool.missing:
            return False
        if self.stored_bytes + pool.item_bytes > self._budget_bytes:
            return False
        pool.add_one()
        if self._closed.is_set():  # while the item was made
            pool.clear()
        return True

    def close(self) -> None:
        """Drop everything and stay empty: the remaining items will never be used."""
        self._closed.set()
        for pool in self._pools:
            pool.clear()
