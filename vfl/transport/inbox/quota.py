"""How much of a party's memory the messages of its peers may take: all together, and each sender's own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vfl.errors import ProtocolError
from vfl.transport.wire.limits import Limits


class InboxQuota:
    """Counts messages that wait or are being received.

    Where there are several senders, each may take half, so that one that sends what nobody asked for neither keeps the
    others out nor makes them look like the cause.

    Args:
        limits: bounds on all together.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._several = False
        self._bytes: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()

    def share_between(self, senders: int) -> None:
        """From now on, this many senders."""
        self._several = senders > 1

    def check(self, sender: str, count: int) -> None:
        """Whether one more message of ``count`` bytes fits.

        Raises:
            ProtocolError: it does not.
        """
        limits, parts = self._limits, 2 if self._several else 1
        own = (self._bytes[sender] + count) * parts, (self._messages[sender] + 1) * parts
        if own[0] > limits.inbox_bytes or own[1] > limits.inbox_messages:
            raise ProtocolError(
                f"this party has no room for another message of {sender}",
                remedy=f"use a smaller batch, or find out why {sender} sends more than is taken",
            )
        if self._bytes.total() + count > limits.inbox_bytes or self._messages.total() >= limits.inbox_messages:
            raise ProtocolError(
                "this party has no room for another message",
                remedy="use a smaller batch, or find out why this party falls behind",
            )

    def enter(self, sender: str, count: int) -> None:
        """Count one message of ``count`` bytes; raises as ``check``."""
        self.check(sender, count)
        self._bytes[sender] += count
        self._messages[sender] += 1

    def leave(self, sender: str, count: int) -> None:
        """One message of ``count`` bytes is gone."""
        self._bytes[sender] -= count
        self._messages[sender] -= 1

    @contextmanager
    def reserve(self, sender: str, count: int) -> Iterator[None]:
        """Room for a message of ``count`` bytes while it is being received; raises as ``check``."""
        self.enter(sender, count)
        try:
            yield
        finally:
            self.leave(sender, count)

    @property
    def bytes(self) -> int:
        """Of all messages."""
        return self._bytes.total()
