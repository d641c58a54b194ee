"""How the coordinator sees that a party is alive and gets on, beside the calls in which the party works."""

from __future__ import annotations

from dataclasses import dataclass

from vfl.messages.control import ControlMessage


@dataclass(frozen=True, slots=True)
class Heartbeat(ControlMessage):
    """Coordinator to party, every few seconds beside its other calls: are you there, and do you get on?

    ``progressing`` names the parties that have got on since the last one: whoever waits for them may wait longer.
    """

    kind = "heartbeat"
    job: str
    run: str
    attempt: int
    progressing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alive(ControlMessage):
    """Party to coordinator: what it does now.

    ``doing`` is empty while no call of the coordinator is being worked on. ``progress`` counts pieces of work and
    grows while the party gets on. ``waiting_for`` names the peer whose message it waits for since
    ``waiting_seconds``; empty while it computes.
    """

    kind = "alive"
    party: str
    doing: str
    progress: int
    waiting_for: str = ""
    waiting_seconds: float = 0.0
