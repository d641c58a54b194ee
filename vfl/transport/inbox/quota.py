"""How much of a party's memory its peers' messages may take: in total and per sender."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from vfl.errors import ProtocolError


class InboxQuota:
    """Counts messages that wait or are being received.

    Each sender has a share, so that a sender of unsolicited messages neither keeps the others out nor makes them look
    like the cause.

    Args:
        max_bytes: bound on the bytes of all messages.
        max_messages: bound on their number.
        parts: each sender may take at most this part of both.
        what: the messages that are counted, for the error.
    """

    def __init__(self, max_bytes: int, max_messages: int, *, parts: int, what: str = "message") -> None:
        self._max_bytes = max_bytes
        self._max_messages = max_messages
        self._parts = parts
        self._what = what
        self._bytes: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()

    def check(self, sender: str, count: int) -> None:
        """Check that one more message of ``count`` bytes fits.

        Raises:
            ProtocolError: it does not fit.
        """
        own = (self._bytes[sender] + count) * self._parts, (self._messages[sender] + 1) * self._parts
        if own[0] > self._max_bytes or own[1] > self._max_messages:
            raise ProtocolError(
                f"this party has no room for another {self._what} from {sender}",
                remedy=f"use a smaller batch, or find out why {sender} sends more than this party takes",
            )
        if self._bytes.total() + count > self._max_bytes or self._messages.total() >= self._max_messages:
            raise ProtocolError(
                f"this party has no room for another {self._what}",
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
