"""Drives protocol exchanges over the network: delivers what an exchange sends, awaits what it receives."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from vfl.errors import DeadlineExceeded, InternalError
from vfl.ids import Address, StepKey
from vfl.messages import Message, Protection
from vfl.messages.exchange import Exchange, Receive, Send
from vfl.party.peers.idle_work import IdleWork
from vfl.runtime.background import start_awaited
from vfl.runtime.clock import loop_time
from vfl.runtime.logs import get_logger
from vfl.runtime.progress import piece_finished
from vfl.transport.channels import PeerChannel
from vfl.transport.inbox import Inbox, overdue

Result = TypeVar("Result")

DELIVERIES_AT_ONCE = 4
"""Messages that may be in transit while arithmetic continues; bounds what a slow connection holds in memory."""

SHOWN_EVERY_SECONDS = 10.0
"""How often a party logs which peer it is waiting for."""

_log = get_logger("vfl.party")


@dataclass(frozen=True, slots=True)
class _Finished(Generic[Result]):
    result: Result


class ExchangeDriver:
    """One party's connections to its peers within a job.

    Args:
        own_name: this party, the sender of its messages.
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        idle: work to do while waiting for a message.
        timeout: seconds to wait for one message or one delivery.
        encrypted: whether the job is encrypted; if so, nothing is sent in the clear.
    """

    def __init__(
        self,
        own_name: str,
        clients: Mapping[str, PeerChannel],
        inbox: Inbox,
        idle: IdleWork,
        timeout: float,
        *,
        encrypted: bool,
    ) -> None:
        self._own_name = own_name
        self._clients = clients
        self._inbox = inbox
        self._idle = idle
        self._timeout = timeout
        self._encrypted = encrypted
        self._last_progress: dict[str, float] = {}
        self._waiting: tuple[str, float] | None = None

    def progressing(self, names: Iterable[str]) -> None:
        """Record that these parties make progress, which extends the wait for their messages."""
        self._last_progress.update({name: loop_time() for name in names if name in self._clients})

    @property
    def waiting_for(self) -> tuple[str, float]:
        """The peer whose message is awaited, and for how many seconds so far; empty and 0 if none."""
        if self._waiting is None:
            return "", 0.0
        name, since = self._waiting
        return name, loop_time() - since

    async def run(self, exchange: Exchange[Result], key: StepKey, purpose: str, seconds: float | None = None) -> Result:
        """Run an exchange to completion. Its arithmetic runs in a thread, so that the process stays responsive.

        Args:
            key: addresses the messages.
            purpose: what the exchange is for, used in errors about missing messages.
            seconds: how long to wait for one message; ``timeout`` by default.

        Raises:
            VflError: the exchange failed, or one of its messages was not delivered.
        """
        deliveries = _Deliveries()
        received: Message | None = None
        try:
            while True:
                request = await asyncio.to_thread(_advance, exchange, received)
                received = None
                match request:
                    case _Finished(result):
                        await deliveries.finish()
                        return result
                    case Send(to, message, part):
                        address = Address(key, message.kind, self._own_name, part)
                        await deliveries.start([self._deliver(name, message, address) for name in to])
                    case Receive(sender, message_type, part):
                        address = Address(key, message_type.kind, sender, part)
                        with self._idle.waiting():
                            taking = self._take(address, seconds or self._timeout, purpose)
                            received = await deliveries.beside(taking)
        finally:
            deliveries.cancel()

    async def _take(self, address: Address, seconds: float, purpose: str) -> Message:
        """Wait for a message until its sender has made no progress for ``seconds``."""
        since = loop_time()
        self._waiting = (address.sender, since)
        try:
            left = seconds
            while True:
                try:
                    return await self._inbox.take(address, min(left, SHOWN_EVERY_SECONDS), purpose)
                except DeadlineExceeded:
                    now = loop_time()
                    left = max(since, self._last_progress.get(address.sender, since)) + seconds - now
                    if left <= 0:
                        raise overdue(address, seconds, purpose) from None
                    _log.info(
                        "waiting for a message", sender=address.sender, purpose=purpose, seconds=round(now - since)
                    )
        finally:
            self._waiting = None

    async def _deliver(self, to: str, message: Message, address: Address) -> None:
        if self._encrypted and message.protection is Protection.CLEAR:
            raise InternalError(f"'{message.kind}' was about to be sent in the clear in an encrypted job")
        await self._clients[to].deliver(address, message, self._timeout)


class _Deliveries:
    """Messages in transit. The first failure ends the exchange, whatever it is doing."""

    def __init__(self) -> None:
        self._running: set[asyncio.Future[None]] = set()

    async def start(self, deliveries: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Deliver a message to its receivers; return once fewer than ``DELIVERIES_AT_ONCE`` messages are in transit."""
        self._running |= {start_awaited(delivery) for delivery in deliveries}
        while len(self._running) >= DELIVERIES_AT_ONCE * len(deliveries):
            await self._next()

    async def beside(self, waiting: Coroutine[Any, Any, Result]) -> Result:
        """The result of ``waiting``, unless a delivery fails first."""
        task = start_awaited(waiting)
        try:
            while not task.done():
                await self._next(task)
            return task.result()
        finally:
            task.cancel()

    async def finish(self) -> None:
        """Wait until all messages have arrived."""
        while self._running:
            await self._next()

    async def _next(self, *others: asyncio.Future[Any]) -> None:
        done, _ = await asyncio.wait({*self._running, *others}, return_when=asyncio.FIRST_COMPLETED)
        for task in done & self._running:
            self._running.remove(task)
            task.result()

    def cancel(self) -> None:
        """Abandon the messages still in transit."""
        for task in self._running:
            task.cancel()


def _advance(exchange: Exchange[Result], received: Message | None) -> Send | Receive | _Finished[Result]:
    try:
        return exchange.send(received)
    except StopIteration as stop:
        return _Finished(stop.value)
    finally:
        piece_finished()
