"""A federation of interaction layers in one process, encrypted or oracle, with seeded contributions."""

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
from vfl.privacy.agreement import AgreementKey
from vfl.privacy.pairwise_masks import PairwiseMasks

PARAMETERS = Parameters.validated(RingSettings())


@dataclass
class Layer:
    """All sides of one interaction layer."""

    shape: InteractionShape
    active: ActiveInteraction
    passive: dict[str, PassiveInteraction]
    keys: dict[str, SecretKey] = field(default_factory=dict)

    def setup(self, transcript: Transcript | None = None) -> None:
        run_exchanges({"active": self.active.setup(), **{n: p.setup() for n, p in self.passive.items()}}, transcript)

    def forward(self, step: int, alpha: Mapping[str, IntArray], transcript: Transcript | None = None) -> IntArray:
        key = StepKey("job", step, 0)
        rows = next(iter(alpha.values())).shape[0]
        sides = {n: p.forward(key, alpha[n]) for n, p in self.passive.items()}
        return run_exchanges({"active": self.active.forward(key, rows), **sides}, transcript)["active"]

    def backward(
        self, step: int, d_z: IntArray, multiplier: int, transcript: Transcript | None = None
    ) -> dict[str, IntArray | None]:
        key = StepKey("job", step, 0)
        sides = {n: p.backward(key, multiplier) for n, p in self.passive.items()}
        exchanges = {"active": self.active.backward(key, d_z, multiplier), **sides}
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


def _generators(shape: InteractionShape, seed: int) -> dict[str, np.random.Generator]:
    return {n: np.random.default_rng([seed, i]) for i, n in enumerate(shape.passive)}


def oracle_layer(shape: InteractionShape, seed: int = 0) -> Layer:
    active = PlaintextActive(shape, PARAMETERS, _generators(shape, seed))
    own = _generators(shape, seed + 1)
    return Layer(shape, active, {n: PlaintextPassive(n, shape, PARAMETERS, own[n]) for n in shape.passive})


def encrypted_layer(
    shape: InteractionShape, seed: int = 0, make_pools: Callable[[str], Pools] = lambda name: Pools()
) -> Layer:
    """``make_pools`` makes the pools of a party, by its name."""
    keys = {name: SecretKey(PARAMETERS) for name in ("active", *shape.passive)}
    agreements = {name: AgreementKey() for name in shape.passive}
    publics = {name: keys[name].public for name in shape.passive}
    active = EncryptedActive(shape, PARAMETERS, _generators(shape, seed), keys["active"], publics, make_pools("active"))
    own = _generators(shape, seed + 1)
    passive: dict[str, PassiveInteraction] = {}
    for name in shape.passive:
        secrets = {
            peer: agreements[name].agree(agreements[peer].public_bytes, name, peer)
            for peer in shape.passive
            if peer != name
        }
        masks = PairwiseMasks(name, secrets, PARAMETERS.tau)
        passive[name] = EncryptedPassive(
            name, shape, PARAMETERS, own[name], keys[name], keys["active"].public, masks, make_pools(name)
        )
    return Layer(shape, active, passive, keys)
