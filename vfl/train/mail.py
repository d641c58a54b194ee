"""Drives protocol exchanges over the network: what an exchange asks to send or receive, this delivers or awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from vfl.errors import InternalError
from vfl.ids import Address, StepKey
from vfl.interact.exchange import Exchange, Receive, Send
from vfl.messages import Message
from vfl.transport.client import PeerClient
from vfl.transport.inbox import Inbox

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Finished(Generic[Result]):
    result: Result


class Mail:
    """One party's connections to its peers within a job.

    Args:
        own_name: sender of what is sent.
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        timeout: seconds to wait for one message or one delivery.
        encrypted: whether the job is; then nothing leaves in the clear.
    """

    def __init__(
        self, own_name: str, clients: Mapping[str, PeerClient], inbox: Inbox, timeout: float, *, encrypted: bool
    ) -> None:
        self._own_name = own_name
        self._clients = clients
        self._inbox = inbox
        self._timeout = timeout
        self._encrypted = encrypted

    async def run(self, exchange: Exchange[Result], key: StepKey, purpose: str, seconds: float | None = None) -> Result:
        """Run an exchange to its end. Its arithmetic runs in a thread, so that the process keeps answering.

        Args:
            key: addresses the messages.
            purpose: what it is for, in words, for errors about messages that do not come.
            seconds: to wait for one message, where that is not this mail's ``timeout``.

        Raises:
            VflError: what the exchange raises, or what happens to its messages.
        """
        received: Message | None = None
        while True:
            request = await asyncio.to_thread(_advance, exchange, received)
            received = None
            match request:
                case _Finished(result):
                    return result
                case Send(to, message, part):
                    await self._deliver(to, message, Address(key, message.kind, self._own_name, part))
                case Receive(sender, message_type, part):
                    address = Address(key, message_type.kind, sender, part)
                    received = await self._inbox.take(address, seconds or self._timeout, purpose)

    async def _deliver(self, to: tuple[str, ...], message: Message, address: Address) -> None:
        if self._encrypted and message.in_the_clear:
            raise InternalError(f"'{message.kind}' was about to leave in the clear in an encrypted job")
        await asyncio.gather(*(self._clients[name].deliver(address, message, self._timeout) for name in to))


def _advance(exchange: Exchange[Result], received: Message | None) -> Send | Receive | _Finished[Result]:
    try:
        return exchange.send(received)
    except StopIteration as stop:
        return _Finished(stop.value)
