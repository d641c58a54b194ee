"""Targets: whole exchanges with an honest peer whose messages are changed on the way, by a recipe."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from support.fuzzing.decoders.ciphertexts import PARAMETERS
from support.fuzzing.edits import RECIPES, Change, edited, framed, frames, step
from support.fuzzing.members import ACTIVE, JOB, PASSIVE, credentials
from support.fuzzing.registry import fuzz_target
from vfl.align.protocol import Alignment
from vfl.align.sets import BlindedIds
from vfl.data.split import split_rows, split_sizes
from vfl.errors import VflError
from vfl.ids import StepKey
from vfl.messages import Array, Message
from vfl.messages.exchange import Exchange, Receive, Send
from vfl.party.peers.key_exchange import AgreedState, OwnPart, SessionKeys
from vfl.party.roles.rows.membership import announce, learn, pack

_SPLIT_ROWS = 42
_SHAPE_BYTE = 0xF0
"""A piece that starts with at least this changes the shape of a tensor, too."""


def tampered(message: Message, recipe: bytes) -> Message:
    """The same kind of message with other content, as the codec could hand it out: element type and dimensions fit."""
    if not recipe:
        return message
    names = list(message.tensors())
    name = names[recipe[0] % len(names)]
    array = message.tensors()[name]
    content = edited(array.tobytes(), recipe[1:])
    itemsize = array.dtype.itemsize
    flat = np.frombuffer(content[: len(content) // itemsize * itemsize], array.dtype)
    return dataclasses.replace(message, **{name: _shaped(flat, array, recipe[0])})


def _shaped(flat: Array, like: Array, how: int) -> Array:
    if flat.size == like.size and how < _SHAPE_BYTE:
        return flat.reshape(like.shape)
    row = 1 if how >= _SHAPE_BYTE else max(int(np.prod(like.shape[1:])), 1)
    rows = flat.size // row
    return flat[: rows * row].reshape(rows, *((1,) * (like.ndim - 2)), *((row,) if like.ndim > 1 else ()))


class TamperedRun:
    """Exchanges run against each other; the next recipe changes the next message.

    Args:
        exchanges: one for each party.
        recipes: of changes; without more of them messages arrive as they were sent.
    """

    def __init__(self, exchanges: dict[str, Exchange[Any]], recipes: Iterator[bytes]) -> None:
        self._exchanges = exchanges
        self._recipes = recipes
        self._mail: dict[tuple[str, str, str, int], deque[Message]] = {}
        self._waiting: dict[str, Send | Receive] = {}
        self._refusals: list[VflError] = []

    def run(self) -> None:
        """Go on until nobody can; a refusal ends that party's part, and is raised at the end."""
        for name in self._exchanges:
            self._resume(name, None)
        progressed = True
        while progressed:
            steps = [self._advance(name, request) for name, request in list(self._waiting.items())]
            progressed = any(steps)
        if self._refusals:
            raise self._refusals[0]

    def _resume(self, name: str, value: Message | None) -> None:
        self._waiting.pop(name, None)
        try:
            self._waiting[name] = self._exchanges[name].send(value)
        except StopIteration:
            pass
        except VflError as error:
            self._refusals.append(error)

    def _advance(self, name: str, request: Send | Receive) -> bool:
        if isinstance(request, Send):
            for to in request.to:
                key = (to, name, request.message.kind, request.part)
                changed = tampered(request.message, next(self._recipes, b""))
                self._mail.setdefault(key, deque()).append(changed)
            self._resume(name, None)
            return True
        queue = self._mail.get((name, request.sender, request.message_type.kind, request.part))
        if queue:
            self._resume(name, queue.popleft())
            return True
        return False


def _recipes() -> Iterator[bytes]:
    yield b""
    for name in (2, 3, 4):  # of public keys: the state, the width and the inputs
        yield framed([bytes((name,)) + RECIPES[1]])
    for at in range(8):
        yield framed([b""] * at + [b"\x00" + RECIPES[1]])
        yield framed([b""] * at + [b"\x01" + RECIPES[2]])
        yield framed([b""] * at + [b"\xf0" + step(Change.FILL)])


def _alignment(name: str, ids: list[str]) -> Exchange[None]:
    alignment = Alignment((ACTIVE, PASSIVE), name, BlindedIds(pl.Series("id", ids), JOB, 1), _any_number)
    yield from alignment.count()
    yield from alignment.reveal()


def _any_number(_: int) -> None:
    """No policy of its own."""


@fuzz_target(_recipes, max_bytes=512)
def alignment(data: bytes) -> None:
    """Numbers of ids, blinded ids, tags and members, at both parties."""
    exchanges = {ACTIVE: _alignment(ACTIVE, ["1", "2", "3"]), PASSIVE: _alignment(PASSIVE, ["2", "3", "4", "5"])}
    TamperedRun(exchanges, frames(data)).run()


@fuzz_target(_recipes, max_bytes=512)
def split_of_rows(data: bytes) -> None:
    """The split that the active party chose, at the passive one."""
    sizes = split_sizes(_SPLIT_ROWS, 0.1, 0.3)
    packed = pack(split_rows(_SPLIT_ROWS, 0.1, 0.3, 0))
    TamperedRun({ACTIVE: announce((PASSIVE,), packed), PASSIVE: learn(ACTIVE, sizes)}, frames(data)).run()


@fuzz_target(_recipes, max_bytes=2048)
def key_exchange(data: bytes) -> None:
    """Public keys with state, width, certificate, intermediate ones and signature, at both parties."""
    key, state = StepKey(JOB, 0, 0), AgreedState(bytes(32), 3, 1, bytes(32), bytes(32))
    exchanges = {}
    for name, peer in ((ACTIVE, PASSIVE), (PASSIVE, ACTIVE)):
        keys = SessionKeys(name, PARAMETERS, encrypted=False, federation="demo", credentials=credentials(name))
        exchanges[name] = keys.exchange((peer,), key, state, OwnPart(4))
    TamperedRun(exchanges, frames(data)).run()
