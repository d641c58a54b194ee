"""How the coordinator checks that a party is alive and makes progress, alongside the calls in which the party works."""

from __future__ import annotations

from dataclasses import dataclass

from vfl.messages.control import ControlMessage


@dataclass(frozen=True, slots=True)
class Heartbeat(ControlMessage):
    """Coordinator to party, at short intervals alongside its other calls: are you alive, and are you making progress?

    ``progressing`` names the parties that have made progress since the last heartbeat: whoever waits for them may wait
    longer.
    """

    kind = "heartbeat"
    job: str
    run: str
    attempt: int
    progressing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alive(ControlMessage):
    """Party to coordinator: what it is doing now.

    ``doing`` is empty while the party works on no call from the coordinator. ``progress`` counts pieces of work and
    grows while the party makes progress. ``waiting_for`` names the peer whose message it has been waiting for, for
    ``waiting_seconds``; empty while it computes.
    """

    kind = "alive"
    party: str
    doing: str
    progress: int
    waiting_for: str = ""
    waiting_seconds: float = 0.0
