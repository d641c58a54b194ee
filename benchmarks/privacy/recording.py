"""Records what both sides of a simulated run compute and receive, row by row.

Shape suffixes: N aligned rows, D width of a passive party's bottom, K width of Z, F features of what was received.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt

from vfl.ids import Batch
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import center
from vfl.interact.stream import Arriving, KeyOwner
from vfl.messages import MaskedActivationProduct
from vfl.party.roles.active import ActiveParty
from vfl.party.roles.local_training import LocalTraining
from vfl.party.roles.passive import PassiveParty
from vfl.privacy.output_noise import OutputNoise

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass
class Released:
    """One release: what the active party got for some rows.

    Attributes:
        columns: of Z.
        z_BM: noisy Z in fixed point, the sum over the passive parties.
        alpha: each passive party's bottom's outputs for these rows in fixed point, without noise.
        weights: each passive party's interaction weights at that moment, likewise; known in the plaintext protocol.
    """

    batch: Batch
    rows: Integers
    columns: slice
    z_BM: Integers
    alpha: dict[str, Integers]
    weights: dict[str, Integers]


@dataclass
class Recording:
    """A run.

    Attributes:
        active: the active party, once it has saved.
        passive: the passive parties by name, likewise.
        released: in order.
        received: by passive party, batch after batch: row numbers, and what it received about each of them.
    """

    active: Any = None
    passive: dict[str, Any] = field(default_factory=dict)
    released: list[Released] = field(default_factory=list)
    received: dict[str, list[tuple[Integers, Floats]]] = field(default_factory=dict)

    def received_by_row(self, name: str) -> tuple[Integers, Floats]:
        """Rows for which a passive party received the most kinds of messages, and all that it received (N, F)."""
        parts: dict[int, list[Floats]] = {}
        for rows, values in self.received[name]:
            for row, value in zip(rows.tolist(), values, strict=True):
                parts.setdefault(row, []).append(value)
        together = {row: np.concatenate(values) for row, values in parts.items()}
        width = max(len(values) for values in together.values())
        rows = sorted(row for row, values in together.items() if len(values) == width)
        return np.array(rows), np.stack([together[row] for row in rows])


@contextmanager
def recorded() -> Iterator[Recording]:
    """Record the one run inside."""
    seen = Recording()
    waiting: dict[str, dict[str, Integers]] = {}
    with ExitStack() as stack:

        def wrap(owner: type, name: str, make: Any) -> None:
            stack.enter_context(patch.object(owner, name, make(getattr(owner, name))))

        wrap(ActiveParty, "save", lambda inner: _saving(inner, lambda role: setattr(seen, "active", role)))
        wrap(
            PassiveParty,
            "save",
            lambda inner: _saving(inner, lambda role: seen.passive.update({role._state.setup.name: role})),
        )
        wrap(ActiveParty, "_interaction_forward", lambda inner: _releases(inner, seen, waiting))
        wrap(PassiveParty, "_interaction_forward", lambda inner: _products(inner, seen, waiting))
        wrap(PassiveParty, "_interaction_backward", lambda inner: _gradients(inner, seen))
        # What the active party reaches alone is no part of a run that an attack sees.
        wrap(LocalTraining, "_train_alone", lambda _: lambda _self: {})
        wrap(KeyOwner, "receive", _keeping_products)
        wrap(EncryptedPassive, "_arriving_gradient", _keeping_ciphertexts)
        yield seen


class Noise(StrEnum):
    """Builds with less noise than the product's."""

    DEFAULT = "default run"
    LEAST = "least noise only"
    """On Z, so small that it only breaks lattices; none in proportion to Z."""
    NONE = "without noise"


@contextmanager
def build_with(noise: Noise) -> Iterator[None]:
    """Weaken the build for the runs inside."""

    def nothing(self: OutputNoise, labels: Any, width: int, *_: Any) -> Integers:
        return np.zeros((len(labels), width), dtype=np.int64)

    def no_normals(self: OutputNoise, labels: Any, width: int) -> Floats:
        return np.zeros((len(labels), width))

    with ExitStack() as stack:
        if noise is not Noise.DEFAULT:
            stack.enter_context(patch.object(OutputNoise, "normals", no_normals))
        if noise is Noise.NONE:
            stack.enter_context(patch.object(OutputNoise, "draw", nothing))
        yield


def joint_weights(seen: Recording) -> dict[str, Integers]:
    """W of every passive party in fixed point (D, K), whichever side holds shares of it."""
    weights = dict(seen.active._interaction.shares())
    for role in seen.passive.values():
        for name, share in role._interaction.shares().items():
            weights[name] = weights[name] + share
    tau = seen.active._state.setup.parameters.tau
    return {name: center(value, tau) for name, value in weights.items()}


def _saving(inner: Any, keep: Any) -> Any:
    async def save(self: Any, run: str) -> float:
        keep(self)
        result: float = await inner(self, run)
        return result

    return save


def _releases(inner: Any, seen: Recording, waiting: dict[str, dict[str, Integers]]) -> Any:
    async def forward(self: Any, key: Any, batch: Batch) -> None:
        await inner(self, key, batch)
        dataset = self._state.dataset
        weights = {name: value.copy() for name, value in self._interaction.shares().items()}
        alpha = waiting.setdefault(repr(batch), {})
        rows, columns = dataset.batch_rows(batch), dataset.plan.columns(batch)
        seen.released.append(Released(batch, rows, columns, self._z.copy(), alpha, weights))

    return forward


def _products(inner: Any, seen: Recording, waiting: dict[str, dict[str, Integers]]) -> Any:
    async def forward(self: Any, key: Any, batch: Batch) -> None:
        name, tau = self._state.setup.name, self._state.setup.parameters.tau
        # The plaintext protocol has no such products.
        products = getattr(getattr(self._interaction, "_owner", None), "__dict__", {})
        products["products"] = []
        waiting.setdefault(repr(batch), {})[name] = self._alpha.copy()
        await inner(self, key, batch)
        if products["products"]:
            masked_BM = np.concatenate(products["products"]) * 2.0**-tau % 1.0 - 0.5
            seen.received.setdefault(name, []).append((self._state.dataset.batch_rows(batch), masked_BM))

    return forward


def _gradients(inner: Any, seen: Recording) -> Any:
    async def backward(self: Any, key: Any, batch: Batch) -> None:
        self._interaction.__dict__["ciphertexts"] = []
        await inner(self, key, batch)
        found = [_by_row(packing, arriving) for packing, arriving in self._interaction.__dict__["ciphertexts"]]
        if self._d_alpha is not None:
            found.append(self._d_alpha)
        if found:
            rows = self._state.dataset.batch_rows(batch)
            seen.received.setdefault(self._state.setup.name, []).append((rows, np.concatenate(found, axis=1)))

    return backward


def _by_row(packing: Any, arriving: Arriving) -> Floats:
    """Of every polynomial and prime of Enc(d_z), the coefficients where a row's gradient is: from -1/2 to 1/2."""
    primes = arriving._parameters.primes
    polynomials = arriving._ciphertexts.numpy().astype(np.int64)
    parts = [
        packing.unpack(polynomials[:, polynomial, at]) / prime - 0.5
        for polynomial in range(2)
        for at, prime in enumerate(primes)
    ]
    return np.concatenate(parts, axis=1)


def _keeping_products(inner: Any) -> Any:
    def receive(self: Any, sender: str, kind: Any, *rest: Any) -> Any:
        result = yield from inner(self, sender, kind, *rest)
        if kind is MaskedActivationProduct:
            self.__dict__.setdefault("products", []).append(result)
        return result

    return receive


def _keeping_ciphertexts(inner: Any) -> Any:
    def arriving(self: Any, layout: Any) -> Any:
        result = inner(self, layout)
        self.__dict__.setdefault("ciphertexts", []).extend(result.items())
        return result

    return arriving
