"""Interaction layers of several parties in one process, and the time and bytes of each exchange between them.

The parties run in turns, never at the same time, so the seconds of a step are the sum of all parties' arithmetic.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.effort import Shape
from vfl.he.arithmetic.updates import update_kernel
from vfl.he.keys import SecretKey
from vfl.he.parameters import Parameters, RingSettings
from vfl.he.pool import Pools
from vfl.ids import StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import IntArray
from vfl.interact.layer import InteractionShape
from vfl.messages import Message
from vfl.messages.exchange import Exchange, Receive, Send
from vfl.privacy.agreement import AgreementKey
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.privacy.releases import Releases
from vfl.transport.wire.data_codec import message_bytes

ExchangeDriver = dict[tuple[str, str, str, int], deque[Message]]
"""Waiting messages, by receiver, sender, kind and part."""

PARAMETERS = Parameters.validated(RingSettings())
NOISE = 0.3
"""Of Z and of d alpha, in their own units."""
ACTIVE = "active"
PHASES = {
    "encrypted_activations": "F1",
    "masked_activation_product": "F2",
    "forward_share": "F3",
    "gradient_commitment": "B0",
    "encrypted_gradient_rows": "B1",
    "encrypted_gradient_blocks": "B1",
    "masked_gradient_product": "B2",
    "masked_weight_gradient": "B2",
    "masked_activation_gradient": "B3",
}
"""The protocol's phases, by kind of message; other kinds count under their own name."""
PHASE_NAMES = tuple(dict.fromkeys(PHASES.values()))


@dataclass(frozen=True)
class Work:
    """A section of one party's arithmetic. What leads to a message belongs to that message's phase, what follows the
    last message of a party to the phase of the message that it received last.

    Attributes:
        sent: bytes of the message at its end, over all receivers; 0 if there is none.
    """

    party: str
    phase: str
    seconds: float
    sent: int


@dataclass
class StepLog:
    """Everything that was computed and sent in a step."""

    work: list[Work] = field(default_factory=list)

    def seconds(self, phase: str | None = None, party: str | None = None) -> float:
        """Seconds of a phase, of a party, or both."""
        return sum(work.seconds for work in self._of(phase, party))

    def sent(self, phase: str | None = None, party: str | None = None) -> int:
        """Bytes sent, over all receivers."""
        return sum(work.sent for work in self._of(phase, party))

    def messages(self, phase: str) -> int:
        """Number of messages, regardless of how many receivers each has."""
        return sum(work.sent > 0 for work in self._of(phase, None))

    def _of(self, phase: str | None, party: str | None) -> Iterable[Work]:
        return (w for w in self.work if phase in (None, w.phase) and party in (None, w.party))


class _Side:
    """One party's exchange while it runs."""

    def __init__(self, name: str, exchange: Exchange[Any], log: StepLog) -> None:
        self._name = name
        self._exchange = exchange
        self._log = log
        self._phase = ""
        self.request: Send | Receive | None = None
        self.result: Any = None

    def resume(self, message: Message | None) -> None:
        if message is not None:
            self._phase = _phase(message)
        started = time.perf_counter()
        try:
            self.request = self._exchange.send(message)
        except StopIteration as stop:
            self.request, self.result = None, stop.value
        seconds, sent = time.perf_counter() - started, 0
        if isinstance(self.request, Send):
            self._phase = _phase(self.request.message)
            sent = message_bytes(self.request.message) * len(self.request.to)
        self._log.work.append(Work(self._name, self._phase, seconds, sent))


def _phase(message: Message) -> str:
    return PHASES.get(message.kind, message.kind)


def run_exchanges(exchanges: Mapping[str, Exchange[Any]], log: StepLog) -> dict[str, Any]:
    """Run one exchange per party until all return; returns their results by party name."""
    sides = {name: _Side(name, exchange, log) for name, exchange in exchanges.items()}
    mail: ExchangeDriver = {}
    for side in sides.values():
        side.resume(None)
    while any(side.request for side in sides.values()):
        if not any(_advance(name, side, mail) for name, side in sides.items()):
            raise RuntimeError("the exchanges are deadlocked")
    return {name: side.result for name, side in sides.items()}


def _advance(name: str, side: _Side, mail: ExchangeDriver) -> bool:
    """Do what a party requests, if that is possible now."""
    match side.request:
        case Send(to, message, part):
            for receiver in to:
                mail.setdefault((receiver, name, message.kind, part), deque()).append(message)
            side.resume(None)
            return True
        case Receive(sender, message_type, part) if queue := mail.get((name, sender, message_type.kind, part)):
            side.resume(queue.popleft())
            return True
    return False


class EncryptedLayer:
    """All parties of an encrypted interaction layer, set up, with random inputs of the given shape."""

    def __init__(self, shape: Shape, passive: int = 1, pool_bytes: int = 0) -> None:
        self._pools = [Pools(pool_bytes) for _ in range(1 + passive)]
        names = tuple(f"passive{index}" for index in range(passive))
        self._layer = InteractionShape(ACTIVE, dict.fromkeys(names, shape.width), shape.out_width, 0, frozenset(names))
        keys = {name: SecretKey(PARAMETERS) for name in (ACTIVE, *names)}
        publics = {name: keys[name].public for name in names}
        generators = {name: np.random.default_rng(index) for index, name in enumerate(names)}
        self._noise = noise = {
            name: Releases(name, b"benchmark", secrets.token_bytes(32), NOISE) for name in (ACTIVE, *names)
        }
        self._columns = slice(0, shape.out_width)
        self._active = EncryptedActive(self._layer, PARAMETERS, keys[ACTIVE], publics, self._pools[0], noise[ACTIVE])
        masks = _pairwise_masks(names)
        self._passive = {
            name: EncryptedPassive(
                name,
                self._layer,
                PARAMETERS,
                generators[name],
                keys[name],
                keys[ACTIVE].public,
                masks[name],
                pools,
                noise[name],
            )
            for name, pools in zip(names, self._pools[1:], strict=True)
        }
        self._inputs = _inputs(shape, names)
        self._step = 0
        run_exchanges(
            {ACTIVE: self._active.setup(), **{n: side.setup() for n, side in self._passive.items()}}, StepLog()
        )

    def step(self) -> StepLog:
        """One forward and one backward pass, with pools filled beforehand."""
        alpha, d_z_BK = self._inputs
        self._step += 1
        for pools in self._pools:
            while pools.fill_one():
                pass
        key, rows, log = StepKey("benchmark", self._step, 0), d_z_BK.shape[0], StepLog()
        columns, ids = self._columns, [b"%d" % row for row in range(rows)]
        forward = {}
        for name, side in self._passive.items():
            labels = self._noise[name].labels(ACTIVE, ids, alpha[name], columns)
            forward[name] = side.forward(key, alpha[name], labels, columns)
        run_exchanges({ACTIVE: self._active.forward(key, rows, columns), **forward}, log)
        backward = {name: side.backward(key, alpha[name], columns) for name, side in self._passive.items()}
        labels_of = dict.fromkeys(self._passive, ids)  # nothing is released twice
        run_exchanges({ACTIVE: self._active.backward(key, d_z_BK, labels_of, columns), **backward}, log)
        for side in (self._active, *self._passive.values()):
            side.step(lambda summed: update_kernel(1.0, 0.0, summed, PARAMETERS))
        return log

    def fastest_step(self, repeats: int) -> StepLog:
        """The fastest of several steps, after one that is not counted."""
        self.step()
        return min((self.step() for _ in range(repeats)), key=StepLog.seconds)


def _pairwise_masks(names: tuple[str, ...]) -> dict[str, PairwiseMasks]:
    agreements = {name: AgreementKey() for name in names}
    publics = {name: agreement.public_bytes for name, agreement in agreements.items()}
    return {
        name: PairwiseMasks(
            name,
            {peer: agreements[name].agree(publics[peer], name, peer) for peer in names if peer != name},
            PARAMETERS.tau,
        )
        for name in names
    }


def _inputs(shape: Shape, names: tuple[str, ...]) -> tuple[dict[str, IntArray], IntArray]:
    generator = np.random.default_rng(7)
    return (
        {name: random_activations(generator, shape.rows, shape.width) for name in names},
        random_gradient(generator, shape.rows, shape.out_width),
    )


def random_activations(generator: np.random.Generator, rows: int, width: int) -> IntArray:
    """Fixed-point activations over their whole range."""
    limit = 1 << PARAMETERS.settings.activation_bits
    return generator.integers(-limit, limit + 1, (rows, width))


def random_gradient(generator: np.random.Generator, rows: int, width: int) -> IntArray:
    """Fixed-point gradients per sample, up to 1 in absolute value."""
    limit = 1 << PARAMETERS.settings.gradient_bits
    return generator.integers(-limit, limit + 1, (rows, width))
