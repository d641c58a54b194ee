"""Builds with one protection taken out, to show that a test notices; and one that helps the attacker as far as it may.

Every patch names what it replaces, so a renamed function breaks the test instead of making it empty.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import vfl.he.ciphertexts
import vfl.he.keys
from vfl.he.keys import PublicKey
from vfl.he.noise import product_hiding, reduction_hiding
from vfl.he.packing import ReductionPacking, RowPacking
from vfl.he.parameters import Parameters
from vfl.he.pool import Pool
from vfl.interact import encrypted_active, encrypted_passive
from vfl.interact.stream import Evaluator
from vfl.privacy.output_noise import OutputNoise
from vfl.runtime.randomness import SEED_BYTES


def keep_all_primes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attacker's best case: products come back at the full modulus, so no rounding blurs its equations."""

    def full(hiding):
        return lambda parameters, layout: replace(hiding(parameters, layout), level=len(parameters.primes))

    monkeypatch.setattr(encrypted_active, "product_hiding", full(product_hiding))
    monkeypatch.setattr(encrypted_active, "reduction_hiding", full(reduction_hiding))
    monkeypatch.setattr(encrypted_passive, "product_hiding", full(product_hiding))
    monkeypatch.setattr(encrypted_passive, "reduction_hiding", full(reduction_hiding))


def without_rerandomization(monkeypatch: pytest.MonkeyPatch) -> None:
    """No encryption of zero is added to a product."""

    def zeros(self: PublicKey, count: int) -> torch.Tensor:
        p = self._parameters
        return torch.zeros((count, 2, len(p.primes), p.degree), dtype=torch.int64)

    monkeypatch.setattr(PublicKey, "encrypt_zeros", zeros)


def without_flooding(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise is added to a product."""

    def zeros(parameters: Parameters, shape: tuple[int, ...], bits: int, level: int) -> torch.Tensor:
        return torch.zeros((*shape[:-1], level, shape[-1]), dtype=torch.int64)

    monkeypatch.setattr(vfl.he.ciphertexts, "flooding_noise", zeros)


def without_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys and encryptions of zero carry no error polynomials."""
    monkeypatch.setattr(vfl.he.keys, "errors", lambda *shape: torch.zeros(shape, dtype=torch.int64))


def with_one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fresh ciphertext has the same second polynomial."""
    monkeypatch.setattr(vfl.he.keys, "fresh_seeds", lambda count: np.ones((count, SEED_BYTES), dtype=np.uint8))


def with_zero_ternary(monkeypatch: pytest.MonkeyPatch) -> None:
    """Public-key encryptions of zero are errors alone."""
    monkeypatch.setattr(vfl.he.keys, "ternary", lambda count, degree: torch.zeros((count, degree), dtype=torch.float64))


def mask_only_used_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks are zero in coefficients that hold no entry of the result. For products of one message each."""
    unused: list[np.ndarray] = []
    send, uniform_mask = Evaluator.send, vfl.he.ciphertexts.uniform_mask

    def remember(self, kind, packing, product, hiding, parts):
        assert parts.end == parts.first + 1
        unused.append(unused_coefficients(packing).all(axis=0))
        return send(self, kind, packing, product, hiding, parts)

    monkeypatch.setattr(Evaluator, "send", remember)
    monkeypatch.setattr(
        vfl.he.ciphertexts, "uniform_mask", lambda p, at: np.where(unused[-1][at], 0, uniform_mask(p, at))
    )


def send_all_coefficients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both polynomials of a returned product are sent whole."""
    for packing in (RowPacking, ReductionPacking):
        assert isinstance(packing.positions, property)
        monkeypatch.setattr(packing, "positions", property(lambda self: np.arange(self.degree)))


def take_without_removing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool hands the same items out again and again."""

    def peek(self: Pool, count: int) -> list:
        while len(self) < count:
            self.add_one()
        return list(self._items)[:count]

    assert callable(Pool.take)
    monkeypatch.setattr(Pool, "take", peek)


def unused_coefficients(packing) -> np.ndarray:
    """Which coefficients (C, N) hold no entry of the packed matrix."""
    indices = np.arange(packing.ciphertexts * packing.degree).reshape(packing.ciphertexts, packing.degree)
    unused = np.ones(indices.size, dtype=bool)
    unused[packing.unpack(indices).ravel()] = False
    return unused.reshape(indices.shape)


def without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outputs are exact, as no setting allows it."""

    def exact(self, labels, width, sigma, fractional_bits):
        return np.zeros((len(labels), width), dtype=np.int64)

    monkeypatch.setattr(OutputNoise, "draw", exact)
    monkeypatch.setattr(OutputNoise, "normals", lambda self, labels, width: np.zeros((len(labels), width)))
