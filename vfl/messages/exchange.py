"""How protocol steps request that messages be sent and received, without knowing about the network.

A protocol run is a generator: it yields ``Send`` and ``Receive``, is sent the received message, and returns its result.
A party drives it over its transport; tests drive two of them against each other in memory.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TypeVar

from vfl.errors import ProtocolError
from vfl.messages import Array, Message

Result = TypeVar("Result")
Received = TypeVar("Received", bound=Message)


@dataclass(frozen=True, slots=True)
class Send:
    """Ask the driver to deliver a message to these parties. Resumed with None, maybe before the message arrives."""

    to: tuple[str, ...]
    message: Message
    part: int = 0


@dataclass(frozen=True, slots=True)
class Receive:
    """Ask the driver for the message of this type from this party. Resumed with the message."""

    sender: str
    message_type: type[Message]
    part: int = 0


Exchange = Generator[Send | Receive, Message | None, Result]
"""A protocol run that returns ``Result``."""


def receive(sender: str, message_type: type[Received], part: int = 0) -> Exchange[Received]:
    """Receive one message within another exchange: ``message = yield from receive(...)``."""
    message = yield Receive(sender, message_type, part)
    if not isinstance(message, message_type):
        raise ProtocolError(f"{sender} sent another message when '{message_type.kind}' was expected")
    return message


def check_shape(array_shape: tuple[int, ...], expected: tuple[int, ...], sender: str, what: str) -> None:
    """Refuse a tensor whose shape is not the one that the protocol requires.

    Raises:
        ProtocolError: naming the sender, the tensor and both shapes.
    """
    if array_shape != expected:
        raise ProtocolError(
            f"{sender} sent {what} of shape {array_shape}, expected {expected}",
            remedy="check that every party uses the same job file and holds the same aligned rows",
        )


def check_share(share: Array, expected: tuple[int, ...], tau: int, sender: str, what: str) -> None:
    """Refuse a matrix over Z_t, t = 2^tau, of another shape or with values that are not centered representatives.

    Raises:
        ProtocolError: naming the sender and the tensor, but no value.
    """
    check_shape(share.shape, expected, sender, what)
    limit = 1 << (tau - 1)
    if share.size and not (-limit <= int(share.min()) and int(share.max()) < limit):
        raise ProtocolError(
            f"{sender} sent {what} with values outside the ring",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
