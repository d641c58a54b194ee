"""Drives protocol exchanges of several parties against each other in memory, recording every message."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

from vfl.messages import Message
from vfl.messages.exchange import Exchange, Receive, Send

Kind = TypeVar("Kind", bound=Message)


@dataclass
class Transcript:
    """Every message sent, in order: (sender, receiver, message); and the number of each within its kind and step."""

    sent: list[tuple[str, str, Message]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)

    def received_by(self, name: str) -> list[Message]:
        return [message for _, receiver, message in self.sent if receiver == name]

    def of_kind(self, kind: type[Kind], sender: str | None = None, receiver: str | None = None) -> list[Kind]:
        return [message for _, message in self.numbered(kind, sender, receiver)]

    def numbered(
        self, kind: type[Kind], sender: str | None = None, receiver: str | None = None
    ) -> list[tuple[int, Kind]]:
        """Messages of a kind with their numbers, in the order they were sent."""
        return [
            (part, message)
            for part, (source, target, message) in zip(self.parts, self.sent, strict=True)
            if isinstance(message, kind) and sender in (None, source) and receiver in (None, target)
        ]


def run_exchanges(exchanges: dict[str, Exchange[Any]], transcript: Transcript | None = None) -> dict[str, Any]:
    """Run one exchange per party until all return; the result of each by party name."""
    transcript = transcript or Transcript()
    mail: dict[tuple[str, str, str, int], deque[Message]] = {}
    waiting: dict[str, Send | Receive] = {}
    results: dict[str, Any] = {}

    def resume(name: str, value: Message | None) -> None:
        try:
            waiting[name] = exchanges[name].send(value)
        except StopIteration as stop:
            waiting.pop(name, None)
            results[name] = stop.value

    for name in exchanges:
        resume(name, None)
    while waiting:
        progressed = False
        for name, request in list(waiting.items()):
            if isinstance(request, Send):
                for receiver in request.to:
                    transcript.sent.append((name, receiver, request.message))
                    transcript.parts.append(request.part)
                    address = (receiver, name, request.message.kind, request.part)
                    mail.setdefault(address, deque()).append(request.message)
                resume(name, None)
                progressed = True
            elif queue := mail.get((name, request.sender, request.message_type.kind, request.part)):
                resume(name, queue.popleft())
                progressed = True
        if not progressed:
            raise AssertionError(f"deadlock: {waiting}")
    # Over the network they would fill the receiver's inbox.
    assert not any(mail.values()), "some messages were never taken"
    return results
