"""A federation of interaction layers in one process, encrypted or plaintext, with seeded contributions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from support.layers.exchanges import Transcript, run_exchanges
from vfl.he.keys import SecretKey
from vfl.he.parameters import Parameters, RingSettings
from vfl.he.pool import Pools
from vfl.ids import StepKey
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import ActiveInteraction, InteractionShape, PassiveInteraction
from vfl.interact.plaintext import PlaintextActive, PlaintextPassive
from vfl.interact.weights import Kernel
from vfl.privacy.agreement import AgreementKey
from vfl.privacy.pairwise_masks import PairwiseMasks
from vfl.privacy.releases import Releases

PARAMETERS = Parameters.validated(RingSettings())


@dataclass
class Layer:
    """All sides of one interaction layer."""

    shape: InteractionShape
    active: ActiveInteraction
    passive: dict[str, PassiveInteraction]
    keys: dict[str, SecretKey] = field(default_factory=dict)
    attempt: int = 0
    alpha: Mapping[str, IntArray] = field(default_factory=dict)

    def setup(self, transcript: Transcript | None = None) -> None:
        run_exchanges({"active": self.active.setup(), **{n: p.setup() for n, p in self.passive.items()}}, transcript)

    @property
    def columns(self) -> slice:
        """All columns of Z."""
        return slice(0, self.shape.out_width)

    def forward(
        self,
        step: int,
        alpha: Mapping[str, IntArray],
        transcript: Transcript | None = None,
        columns: slice | None = None,
    ) -> IntArray:
        key, columns = StepKey("job", step, self.attempt), columns or self.columns
        self.alpha = alpha
        rows = next(iter(alpha.values())).shape[0]
        sides = {
            n: p.forward(key, alpha[n], p._releases.labels("active", numbered(rows), alpha[n], columns), columns)
            for n, p in self.passive.items()
        }
        return run_exchanges({"active": self.active.forward(key, rows, columns), **sides}, transcript)["active"]

    def backward(
        self,
        step: int,
        d_z: IntArray,
        multiplier: int | Kernel,
        transcript: Transcript | None = None,
        columns: slice | None = None,
    ) -> dict[str, IntArray | None]:
        """The gradient of a step by the activations of the latest forward pass, and the step itself."""
        results = self.gradient(step, self.alpha, d_z, transcript, columns)
        kernel = multiplier if callable(multiplier) else constant(multiplier)
        for side in (self.active, *self.passive.values()):
            side.step(kernel)
        return results

    def gradient(
        self,
        step: int,
        alpha: Mapping[str, IntArray],
        d_z: IntArray,
        transcript: Transcript | None = None,
        columns: slice | None = None,
    ) -> dict[str, IntArray | None]:
        key, columns = StepKey("job", step, self.attempt), columns or self.columns
        sides = {n: p.backward(key, alpha[n], columns) for n, p in self.passive.items()}
        ids, releases = numbered(len(d_z)), self.active._releases
        labels = {n: releases.labels(n, ids, d_z, columns) for n in self.passive}
        exchanges = {"active": self.active.backward(key, d_z, labels, columns), **sides}
        results = run_exchanges(exchanges, transcript)
        return {n: results[n] for n in self.passive}

    def shares(self) -> dict[str, IntArray]:
        """The true weights W_i, which in the encrypted protocol no party knows."""
        held = self.active.shares()
        for name, side in self.passive.items():
            for key, share in side.shares().items():
                held[key] = held[name] + share
        return {name: center(value, PARAMETERS.tau) for name, value in held.items()}


def make_shape(widths: Mapping[str, int], out_width: int, frozen: frozenset[str] = frozenset()) -> InteractionShape:
    return InteractionShape("active", dict(widths), out_width, 0, frozenset(widths) - frozen)


def numbered(rows: int) -> list[bytes]:
    """Ids of so many rows."""
    return [b"%d" % row for row in range(rows)]


def constant(multiplier: int) -> Kernel:
    """Plain steps by the same public integer, whatever the number of rows."""
    return lambda rows: (multiplier,)


def releases(name: str, seed: int, sigma: float, statement: bytes = b"job") -> Releases:
    """A side's noise; the encrypted and the plaintext layer of one seed draw the same."""
    return Releases(name, statement, b"%d of %b" % (seed, name.encode()), sigma)


def _generators(shape: InteractionShape, seed: int) -> dict[str, np.random.Generator]:
    return {n: np.random.default_rng([seed, i]) for i, n in enumerate(shape.passive)}


def plaintext_layer(shape: InteractionShape, seed: int = 0, sigma: float = 0.0) -> Layer:
    """``sigma`` of 0 is for tests of the arithmetic and of what exact outputs give away."""
    active = PlaintextActive(shape, PARAMETERS, releases("active", seed, sigma))
    own = _generators(shape, seed)
    passive = {n: PlaintextPassive(n, shape, PARAMETERS, own[n], releases(n, seed, sigma)) for n in shape.passive}
    return Layer(shape, active, passive)


def encrypted_layer(
    shape: InteractionShape,
    seed: int = 0,
    make_pools: Callable[[str], Pools] = lambda name: Pools(),
    sigma: float = 0.0,
) -> Layer:
    """``make_pools`` makes the pools of a party, by its name; for ``sigma`` see ``plaintext_layer``."""
    keys = {name: SecretKey(PARAMETERS) for name in ("active", *shape.passive)}
    agreements = {name: AgreementKey() for name in shape.passive}
    publics = {name: keys[name].public for name in shape.passive}
    own_noise = releases("active", seed, sigma)
    active = EncryptedActive(shape, PARAMETERS, keys["active"], publics, make_pools("active"), own_noise)
    own = _generators(shape, seed)
    passive: dict[str, PassiveInteraction] = {}
    for name in shape.passive:
        secrets = {
            peer: agreements[name].agree(agreements[peer].public_bytes, name, peer)
            for peer in shape.passive
            if peer != name
        }
        masks = PairwiseMasks(name, secrets, PARAMETERS.tau)
        key, public, noise = keys[name], keys["active"].public, releases(name, seed, sigma)
        passive[name] = EncryptedPassive(
            name, shape, PARAMETERS, own[name], key, public, masks, make_pools(name), noise
        )
    return Layer(shape, active, passive, keys)
