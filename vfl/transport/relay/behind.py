"""A party behind a relay: its ``Accept`` calls, the callers that wait for one, and how many connections each has."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter, deque

from vfl.errors import PeerUnreachable, ProtocolError
from vfl.runtime.clock import loop_time
from vfl.transport.wire.limits import MAX_RELAYED_OF_PAIR, MAX_RELAYED_WAITING

JOIN_SECONDS = 2.0
"""How long a caller waits for a party whose ``Accept`` calls are all taken, or have just ended, to open another."""
_PIECES_AHEAD = 4
"""Pieces kept for a side that reads slowly, before the other side has to wait."""


class Joined:
    """One connection: what each side has sent and the other has not yet received. ``None`` marks the end."""

    def __init__(self) -> None:
        self.to_party: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self.to_caller: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES_AHEAD)
        self.bytes = 0


class Behind:
    """Joins callers of one party to its ``Accept`` calls.

    No caller can keep the others out: each has ``MAX_RELAYED_OF_PAIR`` connections at most, and of several that wait,
    the one with the fewest is next.

    Args:
        party: name of the party.
        relay: name of the party that it is behind.
    """

    def __init__(self, party: str, relay: str) -> None:
        self._party = party
        self._relay = relay
        self._accepts = 0
        self._last_left = -math.inf
        self._waiting: deque[asyncio.Future[Joined]] = deque()
        self._callers: list[tuple[str, asyncio.Future[Joined]]] = []
        self._connections: Counter[str] = Counter()

    async def wait_for_caller(self) -> Joined:
        """For an ``Accept`` call: the connection of the next caller. ``accept_ended`` must follow.

        Raises:
            ProtocolError: too many of its calls wait already.
            PeerUnreachable: the relay is stopping.
        """
        if len(self._waiting) >= MAX_RELAYED_WAITING:
            raise ProtocolError(
                f"{self._party} keeps more than {MAX_RELAYED_WAITING} connections open in advance for callers",
                remedy=f"check that {self._party} runs the same version of vfl",
            )
        waiter: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        self._accepts += 1
        self._waiting.append(waiter)
        self._match()
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:  # joined just now
                close(waiter.result().to_caller)
            self.accept_ended()
            raise
        finally:
            with contextlib.suppress(ValueError):  # it was taken from the queue
                self._waiting.remove(waiter)

    def accept_ended(self) -> None:
        """Note that an ``Accept`` call that had a caller is over."""
        self._accepts -= 1
        self._last_left = loop_time()

    async def join(self, caller: str) -> Joined:
        """For a caller: a connection to the party. ``leave`` must follow.

        Raises:
            ProtocolError: the caller has too many connections to this party already.
            PeerUnreachable: the party is not there, or has no room for this caller.
        """
        if self._connections[caller] >= MAX_RELAYED_OF_PAIR:
            raise ProtocolError(
                f"{caller} already has {MAX_RELAYED_OF_PAIR} connections to {self._party} through {self._relay}, "
                "the most allowed",
                remedy=f"find out why connections from {caller} do not end",
            )
        if not self._accepts and loop_time() - self._last_left > JOIN_SECONDS:
            raise self._absent()
        self._connections[caller] += 1
        asked: asyncio.Future[Joined] = asyncio.get_running_loop().create_future()
        self._callers.append((caller, asked))
        self._match()
        try:
            async with asyncio.timeout(JOIN_SECONDS):
                return await asked
        except BaseException as error:
            if asked.done() and not asked.cancelled():  # joined just now
                close(asked.result().to_party)
            self.leave(caller)
            if isinstance(error, TimeoutError):
                raise self._crowded() if self._accepts else self._absent() from None
            raise
        finally:
            with contextlib.suppress(ValueError):
                self._callers.remove((caller, asked))

    def leave(self, caller: str) -> None:
        """Note that a connection of a caller is over."""
        self._connections[caller] -= 1

    def close(self) -> None:
        """Admit no more callers; connections that are already relayed may finish."""
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(PeerUnreachable("the relay is stopping", remedy=f"start {self._relay} again"))

    def _match(self) -> None:
        while (accepting := self._first_waiting()) and (
            asking := [each for each in self._callers if not each[1].done()]
        ):
            _, asked = min(asking, key=lambda each: self._connections[each[0]])
            joined = Joined()
            accepting.set_result(joined)
            asked.set_result(joined)

    def _first_waiting(self) -> asyncio.Future[Joined] | None:
        while self._waiting and self._waiting[0].done():
            self._waiting.popleft()
        return self._waiting[0] if self._waiting else None

    def _absent(self) -> PeerUnreachable:
        return PeerUnreachable(
            f"{self._party} is not connected to {self._relay}, through which it is reached",
            remedy=f"start {self._party}",
        )

    def _crowded(self) -> PeerUnreachable:
        (most, count), *_ = self._connections.most_common(1)
        return PeerUnreachable(
            f"{self._party} took no further connection through {self._relay} within {JOIN_SECONDS:g} s; "
            f"{most} has {count} connections to it",
            remedy=f"find out whether {self._party} is overloaded, and why {most} has so many",
        )


def close(queue: asyncio.Queue[bytes | None]) -> None:
    """Signal the end to the other side; pieces that it has not read yet may be dropped."""
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
