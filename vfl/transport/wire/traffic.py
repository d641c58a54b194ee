"""Counts the tensor bytes that a party sends to and receives from each peer, by run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of tensors in each direction."""

    sent: int = 0
    received: int = 0


class TrafficMeter:
    """Counts the payload of delivered messages. Used from one event loop."""

    def __init__(self) -> None:
        self._sent: dict[str, Counter[str]] = {}
        self._received: dict[str, Counter[str]] = {}

    def count_sent(self, run: str, peer: str, count: int) -> None:
        """Count a message of ``count`` bytes that was delivered to ``peer``."""
        self._sent.setdefault(run, Counter())[peer] += count

    def count_received(self, run: str, peer: str, count: int) -> None:
        """Count a message of ``count`` bytes that was accepted from ``peer``."""
        self._received.setdefault(run, Counter())[peer] += count

    def by_peer(self, run: str) -> dict[str, Traffic]:
        """Bytes of a run so far, by peer."""
        sent, received = self._sent.get(run, Counter()), self._received.get(run, Counter())
        return {peer: Traffic(sent[peer], received[peer]) for peer in sorted(sent.keys() | received.keys())}

    def total(self, run: str) -> Traffic:
        """Bytes of a run so far, over all peers."""
        by_peer = self.by_peer(run).values()
        return Traffic(sum(t.sent for t in by_peer), sum(t.received for t in by_peer))

    def forget(self, run: str) -> None:
        """Drop the counts of a run that is over."""
        self._sent.pop(run, None)
        self._received.pop(run, None)
