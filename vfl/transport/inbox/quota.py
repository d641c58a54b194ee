"""How much of a party's memory its peers' messages may take: in total and per sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vfl.errors import ProtocolError
from vfl.transport.wire.limits import Limits


class InboxQuota:
    """Counts messages that wait or are being received.

    If there are several senders, each may take at most half, so that a sender of unsolicited messages neither keeps the
    others out nor makes them look like the cause.

    Args:
        limits: bounds on the total.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._several = False
        self._bytes: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()

    def share_between(self, senders: int) -> None:
        """Set the number of senders."""
        self._several = senders > 1

    def check(self, sender: str, count: int) -> None:
        """Check that one more message of ``count`` bytes fits.

        Raises:
            ProtocolError: it does not fit.
        """
        limits, parts = self._limits, 2 if self._several else 1
        own = (self._bytes[sender] + count) * parts, (self._messages[sender] + 1) * parts
        if own[0] > limits.inbox_bytes or own[1] > limits.inbox_messages:
            raise ProtocolError(
                f"this party has no room for another message from {sender}",
                remedy=f"use a smaller batch, or find out why {sender} sends more than this party takes",
            )
        if self._bytes.total() + count > limits.inbox_bytes or self._messages.total() >= limits.inbox_messages:
            raise ProtocolError(
                "this party has no room for another message",
                remedy="use a smaller batch, or find out why this party falls behind",
            )

    def enter(self, sender: str, count: int) -> None:
        """Count one message of ``count`` bytes; raises like ``check``."""
        self.check(sender, count)
        self._bytes[sender] += count
        self._messages[sender] += 1

    def leave(self, sender: str, count: int) -> None:
        """Stop counting one message of ``count`` bytes."""
        self._bytes[sender] -= count
        self._messages[sender] -= 1

    @contextmanager
    def reserve(self, sender: str, count: int) -> Iterator[None]:
        """Reserve room for a message of ``count`` bytes while it is being received; raises like ``check``."""
        self.enter(sender, count)
        try:
            yield
        finally:
            self.leave(sender, count)

    @property
    def bytes(self) -> int:
        """Total bytes of all messages."""
        return self._bytes.total()
