"""Drives protocol exchanges over the network: what an exchange asks to send or receive, this delivers or awaits."""

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
from vfl.runtime.clock import loop_time
from vfl.runtime.logs import get_logger
from vfl.runtime.progress import piece_finished
from vfl.transport.channels import PeerChannel
from vfl.transport.inbox import Inbox, overdue

Result = TypeVar("Result")

DELIVERIES_AT_ONCE = 4
"""Messages that may be on their way while the arithmetic goes on; bounds what a slow connection keeps in memory."""

SHOWN_EVERY_SECONDS = 10.0
"""How often a party's log says for whom it waits."""

_log = get_logger("vfl.party")


@dataclass(frozen=True, slots=True)
class _Finished(Generic[Result]):
    result: Result


class ExchangeDriver:
    """One party's connections to its peers within a job.

    Args:
        own_name: sender of what is sent.
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        idle: what to do while waiting for a message.
        timeout: seconds to wait for one message or one delivery.
        encrypted: whether the job is; then nothing leaves in the clear.
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
        self._got_on: dict[str, float] = {}
        self._waiting: tuple[str, float] | None = None

    def progressing(self, names: Iterable[str]) -> None:
        """These parties get on: whoever waits for a message of theirs may wait on."""
        self._got_on.update({name: loop_time() for name in names if name in self._clients})

    @property
    def waiting_for(self) -> tuple[str, float]:
        """The peer whose message is awaited, and since how many seconds; empty and 0 where none is."""
        if self._waiting is None:
            return "", 0.0
        name, since = self._waiting
        return name, loop_time() - since

    async def run(self, exchange: Exchange[Result], key: StepKey, purpose: str, seconds: float | None = None) -> Result:
        """Run an exchange to its end. Its arithmetic runs in a thread, so that the process keeps answering.

        Args:
            key: addresses the messages.
            purpose: what it is for, in words, for errors about messages that do not come.
            seconds: to wait for one message, where that is not this mail's ``timeout``.

        Raises:
            VflError: what the exchange raises, or what happens to its messages.
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
        """The message, if its sender gets on: so many seconds without that are too many."""
        since = loop_time()
        self._waiting = (address.sender, since)
        try:
            left = seconds
            while True:
                try:
                    return await self._inbox.take(address, min(left, SHOWN_EVERY_SECONDS), purpose)
                except DeadlineExceeded:
                    now = loop_time()
                    left = max(since, self._got_on.get(address.sender, since)) + seconds - now
                    if left <= 0:
                        raise overdue(address, seconds, purpose) from None
                    _log.info("waiting", for_message_of=address.sender, purpose=purpose, seconds=round(now - since))
        finally:
            self._waiting = None

    async def _deliver(self, to: str, message: Message, address: Address) -> None:
        if self._encrypted and message.protection is Protection.CLEAR:
            raise InternalError(f"'{message.kind}' was about to leave in the clear in an encrypted job")
        await self._clients[to].deliver(address, message, self._timeout)


class _Deliveries:
    """Messages on their way. The first that fails ends the exchange, whatever that is doing."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    async def start(self, deliveries: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Deliver a message to its receivers; returns when fewer than ``DELIVERIES_AT_ONCE`` messages are under way."""
        self._running |= {asyncio.create_task(delivery) for delivery in deliveries}
        while len(self._running) >= DELIVERIES_AT_ONCE * len(deliveries):
            await self._next()

    async def beside(self, waiting: Coroutine[Any, Any, Result]) -> Result:
        """The result of ``waiting``, unless a delivery fails first."""
        task = asyncio.create_task(waiting)
        try:
            while not task.done():
                await self._next(task)
            return task.result()
        finally:
            task.cancel()

    async def finish(self) -> None:
        """Until all have arrived."""
        while self._running:
            await self._next()

    async def _next(self, *others: asyncio.Task[Any]) -> None:
        done, _ = await asyncio.wait({*self._running, *others}, return_when=asyncio.FIRST_COMPLETED)
        for task in done & self._running:
            self._running.remove(task)
            task.result()

    def cancel(self) -> None:
        """Give up what is still on its way."""
        for task in self._running:
            task.cancel()


def _advance(exchange: Exchange[Result], received: Message | None) -> Send | Receive | _Finished[Result]:
    try:
        return exchange.send(received)
    except StopIteration as stop:
        return _Finished(stop.value)
    finally:
        piece_finished()
