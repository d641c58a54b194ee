"""Ciphertexts between two parties, in parts: sent as soon as they are made, used as soon as they arrive.

One side packs, encrypts and sends; the other multiplies, hides and returns; the first decrypts. Both sides split a
batch in the same places, because they derive them from the layout.

Shapes: C ciphertexts, L primes, N ring degree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from vfl.he.arithmetic.compute import zeros
from vfl.he.ciphertexts import Cover, encrypt, from_wire, hide, make_cover, seeded_from_wire, to_wire
from vfl.he.keys import PublicKey, SecretKey, SeededCiphertexts
from vfl.he.layout import ProductLayout
from vfl.he.noise import Hiding
from vfl.he.packing import ReductionPacking, RowPacking
from vfl.he.parameters import Parameters
from vfl.he.pool import Pool, Pools
from vfl.interact.fixed_point import IntArray
from vfl.messages import FreshCiphertexts, HiddenCiphertexts
from vfl.messages.exchange import Exchange, Send, receive

PART_CIPHERTEXTS = 8
"""Ciphertexts of one message: enough that its overhead is small, few enough that the receiver starts early."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Consecutive messages of one kind: where in the sequence of a step they start."""

    count: int
    first: int = 0

    @property
    def end(self) -> int:
        """The number after the last message's."""
        return self.first - (-self.count // PART_CIPHERTEXTS)

    def __iter__(self) -> Iterator[tuple[int, slice]]:
        starts = range(0, self.count, PART_CIPHERTEXTS)
        return ((self.first + at, slice(s, min(self.count, s + PART_CIPHERTEXTS))) for at, s in enumerate(starts))


@dataclass(frozen=True, slots=True)
class Slab:
    """Consecutive rows that are multiplied and returned separately.

    Attributes:
        source: its ciphertexts among those of the batch.
        parts: the messages that return the product.
    """

    rows: slice
    layout: ProductLayout
    source: slice
    parts: Parts


def slabs(layout: ProductLayout) -> Iterator[Slab]:
    """A product split by rows, so one slab is computed while others are sent. Message numbers run through all slabs."""
    source = product = 0
    for rows, run in layout.slabs(PART_CIPHERTEXTS):
        parts = Parts(run.product.ciphertexts, product)
        yield Slab(rows, run, slice(source, source + run.source.ciphertexts), parts)
        source, product = source + run.source.ciphertexts, parts.end


class KeyOwner:
    """Encrypts under this party's own key and decrypts replies. Encryptions of zero may be prepared in advance."""

    def __init__(self, parameters: Parameters, key: SecretKey, pools: Pools) -> None:
        self._parameters = parameters
        self._key = key
        self._zeros: Pool[SeededCiphertexts] = pools.pool(self._zero, 4 * len(parameters.primes) * parameters.degree)

    def _zero(self) -> SeededCiphertexts:
        zero = self._key.encrypt_zeros(1)
        return SeededCiphertexts(zero.first.to(torch.int32), zero.seeds)

    def expect(self, count: int) -> None:
        """Announce the number of ciphertexts of one step."""
        self._zeros.expect(count)

    def send(
        self, to: tuple[str, ...], kind: type[FreshCiphertexts], coefficients: IntArray, parts: Parts
    ) -> Exchange[None]:
        """Encrypt coefficient vectors (C, N) and send them."""
        p = self._parameters
        for number, part in parts:
            zeros = SeededCiphertexts.together(self._zeros.take(part.stop - part.start))
            fresh = encrypt(p, zeros, coefficients[part])
            yield Send(to, kind(to_wire(p, fresh.first), fresh.seeds), number)

    def receive(
        self,
        sender: str,
        kind: type[HiddenCiphertexts],
        packing: RowPacking | ReductionPacking,
        level: int,
        parts: Parts,
    ) -> Exchange[IntArray]:
        """Receive hidden products packed as ``packing`` and decrypt them: the matrix, masked.

        Raises:
            ProtocolError: the ciphertexts are malformed; names the sender.
        """
        p, positions = self._parameters, packing.positions
        coefficients = np.empty((parts.count, p.degree), dtype=np.int64)
        for number, part in parts:
            message = yield from receive(sender, kind, number)
            what, count = f"'{kind.kind}'", part.stop - part.start
            first = from_wire(p, message.ct_first_CLW, (count, level, len(positions)), sender, what)
            second = from_wire(p, message.ct_second_CLW, (count, level, p.degree), sender, what)
            coefficients[part] = self._key.decrypt_at(first, second, positions)
        return packing.unpack(coefficients)


class Arriving:
    """Fresh ciphertexts of a peer, used as they arrive."""

    def __init__(self, parameters: Parameters, sender: str, kind: type[FreshCiphertexts], count: int) -> None:
        self._parameters = parameters
        self._sender = sender
        self._kind = kind
        self._parts = iter(Parts(count))
        self._ready = 0
        # Primes have at most 30 bits.
        self._ciphertexts = zeros((count, 2, len(parameters.primes), parameters.degree), torch.int32)

    def take(self, which: slice) -> Exchange[torch.Tensor]:
        """The requested ciphertexts (C, 2, L, N), int32, once they have arrived.

        Raises:
            ProtocolError: ciphertexts or seeds are malformed; names the sender.
        """
        while self._ready < which.stop:
            number, part = next(self._parts)
            message = yield from receive(self._sender, self._kind, number)
            count, what = part.stop - part.start, f"'{self._kind.kind}'"
            self._ciphertexts[part] = seeded_from_wire(
                self._parameters, message.ct_first_CLW, message.seeds_C, count, self._sender, what
            )
            self._ready = part.stop
        return self._ciphertexts[which]


class Evaluator:
    """Receives ciphertexts of one peer and returns products of them. Covers may be prepared in advance."""

    def __init__(self, parameters: Parameters, owner: str, key: PublicKey, pools: Pools) -> None:
        self._parameters = parameters
        self._owner = owner
        self._key = key
        self._pools = pools
        self._covers: dict[tuple[int, bytes], Pool[Cover]] = {}

    def expect(self, *needs: tuple[Hiding, RowPacking | ReductionPacking]) -> None:
        """Announce the products of one step: how they are hidden and packed."""
        counts: Counter[Pool[Cover]] = Counter()
        for hiding, packing in needs:
            counts[self._pool(hiding, packing.positions)] += packing.ciphertexts
        for pool, count in counts.items():
            pool.expect(count)

    def _pool(self, hiding: Hiding, positions: IntArray) -> Pool[Cover]:
        p, bits = self._parameters, hiding.flooding_bits
        key = bits, positions.tobytes()
        if key not in self._covers:
            item_bytes = 4 * len(p.primes) * (positions.size + p.degree) + 8 * positions.size
            self._covers[key] = self._pools.pool(partial(make_cover, p, self._key, bits, positions), item_bytes)
        return self._covers[key]

    def arriving(self, kind: type[FreshCiphertexts], count: int) -> Arriving:
        """``count`` fresh ciphertexts that the owner sends."""
        return Arriving(self._parameters, self._owner, kind, count)

    def send(
        self,
        kind: type[HiddenCiphertexts],
        packing: RowPacking | ReductionPacking,
        product: torch.Tensor,
        hiding: Hiding,
        parts: Parts,
    ) -> Exchange[IntArray]:
        """Hide products (C, 2, L, N) packed as ``packing``, send them to the key owner, and return the mask."""
        p, positions = self._parameters, packing.positions
        masks = np.zeros((parts.count, p.degree), dtype=np.int64)
        for number, part in parts:
            covers = self._pool(hiding, positions).take(part.stop - part.start)
            masks[part, positions] = np.stack([cover.mask for cover in covers])
            hidden = hide(p, product[part], covers, hiding.level, positions)
            yield Send((self._owner,), kind(to_wire(p, hidden.first), to_wire(p, hidden.second)), number)
        return packing.unpack(masks)
