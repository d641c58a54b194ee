"""Key pairs, encryptions of zero, decryption. SEAL generates the secret keys; the arithmetic is done here.

Encryption and decryption need one product of polynomials by a ternary one, which floating-point transforms give exactly
(``rounding.zero_product_error``), and random polynomials (``sampling``). Passing ciphertexts through SEAL's save and
load streams instead costs several times more than the arithmetic, and holds the interpreter lock (benchmarks/).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import ProtocolError
from vfl.he.arithmetic.checksum import Point
from vfl.he.arithmetic.compute import spread
from vfl.he.arithmetic.negacyclic import inverse_transform, transform
from vfl.he.arithmetic.residues import centered, nearest_zero, nonnegative, prime_column
from vfl.he.arithmetic.sampling import errors, fresh_seeds, ternary, uniform_residues
from vfl.he.parameters import Parameters
from vfl.he.seal import SealSecret
from vfl.runtime.randomness import SEED_BYTES


@dataclass(frozen=True, slots=True)
class SeededCiphertexts:
    """Fresh ciphertexts whose second polynomial is the expansion of a seed: half the bytes.

    Attributes:
        first: c0, (C, L, N) residues.
        seeds: (C, 32) bytes.
    """

    first: torch.Tensor
    seeds: npt.NDArray[np.uint8]

    @classmethod
    def together(cls, items: Sequence[SeededCiphertexts]) -> SeededCiphertexts:
        """Concatenate the ciphertexts of several objects, at least one."""
        return cls(torch.cat([item.first for item in items]), np.concatenate([item.seeds for item in items]))

    def expanded(self, parameters: Parameters) -> torch.Tensor:
        """The full ciphertexts (C, 2, L, N)."""
        out = self.first.new_empty((self.first.shape[0], 2, *self.first.shape[1:]))

        def expand_one(index: int) -> None:
            out[index, 0] = self.first[index]
            out[index, 1] = uniform_residues(self.seeds[index].tobytes(), parameters.primes, parameters.degree)

        spread(expand_one, range(len(self.seeds)))
        return out


class PublicKey:
    """A party's public key (b, a) with b + a s = -e: itself an encryption of zero.

    It creates encryptions of zero; plaintexts are added to residues.
    """

    def __init__(self, parameters: Parameters, key: torch.Tensor) -> None:
        self._parameters = parameters
        self._key = key
        primes = prime_column(parameters, len(parameters.primes))
        self._spectrum = transform(centered(key, primes).to(torch.float64))
        self._point = Point(parameters.primes, parameters.degree)
        self._key_at_point = self._point.residue_values(self._point.residue_sums(key.to(torch.float64)))

    @classmethod
    def from_bytes(cls, parameters: Parameters, data: bytes, owner: str) -> PublicKey:
        """Load a peer's key.

        Raises:
            ProtocolError: not a valid key for these parameters, or one that would not hide anything.
        """
        shape = (2, len(parameters.primes), parameters.degree)
        if len(data) != 4 * math.prod(shape):
            raise _malformed(owner)
        key = torch.from_numpy(np.frombuffer(data, dtype="<u4").astype(np.int64).reshape(shape))
        in_range = bool((key < prime_column(parameters, shape[1])).all())
        # A zero polynomial would make every encryption of zero transparent, and re-randomizing useless.
        if not in_range or not bool(key.any(dim=-1).all()):
            raise _malformed(owner)
        return cls(parameters, key)

    def to_bytes(self) -> bytes:
        """The key as it is sent: residues, 4 bytes each."""
        return self._key.numpy().astype("<u4").tobytes()

    def encrypt_zeros(self, count: int) -> torch.Tensor:
        """Fresh encryptions of zero (b u + e0, a u + e1), u ternary: residues (count, 2, L, N)."""
        p = self._parameters
        level = len(p.primes)
        primes = prime_column(p, level)
        out = torch.empty((count, 2, level, p.degree), dtype=torch.int64)

        def encrypt_one(index: int) -> None:
            small = torch.cat((ternary(1, p.degree), errors(2, 1, p.degree).view(2, -1).to(torch.float64)))
            product = inverse_transform(self._spectrum * transform(small[:1]))
            product += small[1:].unsqueeze(1)
            zero = nearest_zero(product, primes)
            self._check(small, zero)
            out[index] = nonnegative(zero, primes)

        spread(encrypt_one, range(count))
        return out

    def _check(self, small: torch.Tensor, zero: torch.Tensor) -> None:
        """Compare an encryption of zero (2, L, N) with the u, e0 and e1 (3, N) that it is made of."""
        point = self._point
        values_3L = point.small_values(point.small_sums(small))
        found_2L = point.residue_values(point.residue_sums(zero))
        expected_2L = point.reduced(self._key_at_point * values_3L[0]) + values_3L[1:]
        point.require_equal(found_2L, expected_2L, "an encryption of zero")


class SecretKey:
    """A party's key pair. The secret key exists only in this process and has no serialized form."""

    def __init__(self, parameters: Parameters) -> None:
        self._parameters = parameters
        self._seal = SealSecret(parameters)
        secret = torch.from_numpy(self._seal.coefficients().astype(np.float64))
        self._spectrum = transform(secret)
        self._point = Point(parameters.primes, parameters.degree)
        self._secret_at_point = self._point.small_values(self._point.small_sums(secret))
        self.public = PublicKey(parameters, self.encrypt_zeros(1).expanded(parameters)[0])

    def __reduce__(self) -> str:
        raise TypeError("a secret key cannot be serialized")

    def encrypt_zeros(self, count: int) -> SeededCiphertexts:
        """Fresh symmetric encryptions of zero (-(a s) + e, a), a expanded from a seed."""
        p = self._parameters
        primes = prime_column(p, len(p.primes))
        seeds = fresh_seeds(count)
        first = torch.empty((count, len(p.primes), p.degree), dtype=torch.int64)

        def encrypt_one(index: int) -> None:
            a = uniform_residues(seeds[index].tobytes(), p.primes, p.degree)
            first[index] = nonnegative(self._times_secret(a, errors(1, p.degree).to(torch.float64), primes), primes)

        spread(encrypt_one, range(count))
        return SeededCiphertexts(first, seeds)

    def _times_secret(self, polynomial: torch.Tensor, error: torch.Tensor | None, primes: torch.Tensor) -> torch.Tensor:
        """A polynomial (l, N) of residues times s, or an error (1, N) minus that, as ``nearest_zero`` returns it."""
        values, point = centered(polynomial, primes).to(torch.float64), self._point
        product = inverse_transform(transform(values) * self._spectrum)
        factor_L = point.residue_values(point.residue_sums(values))
        expected_L = factor_L * self._secret_at_point[: len(factor_L)]
        if error is not None:
            product = error - product
            expected_L = point.small_values(point.small_sums(error[0])) - expected_L
        result = nearest_zero(product, primes)
        point.require_equal(point.residue_values(point.residue_sums(result)), expected_L, "a product with a secret key")
        return result

    def decrypt(self, residues: torch.Tensor) -> npt.NDArray[np.int64]:
        """Plaintext coefficients (C, N), in [0, t), of ciphertexts (C, 2, level, N)."""
        return self.decrypt_at(residues[:, 0], residues[:, 1], np.arange(self._parameters.degree))

    def decrypt_at(
        self, first: torch.Tensor, second: torch.Tensor, positions: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Plaintext coefficients (C, N) of ciphertexts, in [0, t) at some positions and zero elsewhere.

        round(t / q (c0 + c1 s)) mod t, prime by prime: with y_i = (c0 + c1 s) (q / q_i)^-1 mod q_i this is
        sum_i t y_i / q_i modulo t, of which the whole parts are integers and only the rest needs floating point
        (simplified from Halevi, Polyakov and Shoup, eprint 2018/117, section 2.4).

        Args:
            first: c0 at those positions only, (C, level, U).
            second: c1, (C, level, N).
        """
        p, level = self._parameters, second.shape[1]
        primes = prime_column(p, level)
        inverses = _inverse_column(p, level)
        out = np.zeros((first.shape[0], p.degree), dtype=np.int64)
        where = torch.from_numpy(positions)

        def decrypt_one(index: int) -> None:
            phase = self._times_secret(second[index], None, primes)[:, where].add_(first[index]).to(torch.int64)
            out[index, positions] = _scaled_down(p, phase.mul_(inverses).remainder_(primes), primes).numpy()

        spread(decrypt_one, range(first.shape[0]))
        return out


@lru_cache(maxsize=32)
def _inverse_column(parameters: Parameters, level: int) -> torch.Tensor:
    """(q / q_i)^-1 modulo each of the first ``level`` primes: (level, 1)."""
    q = parameters.modulus(level)
    return torch.tensor([pow(q // prime, -1, prime) for prime in parameters.primes[:level]]).unsqueeze(1)


def _scaled_down(parameters: Parameters, y: torch.Tensor, primes: torch.Tensor) -> torch.Tensor:
    """round(sum_i t y_i / q_i) modulo t, for y (level, U) with y_i below q_i, in two halves of t."""
    half = parameters.tau // 2
    scaled = y << half
    high = scaled.div(primes, rounding_mode="floor")
    scaled = (scaled - high * primes) << half
    low = scaled.div(primes, rounding_mode="floor")
    rest = (scaled - low * primes).to(torch.float64).div_(primes).sum(dim=0)
    total = ((high << half) + low).sum(dim=0) + torch.floor(rest + 0.5).to(torch.int64)
    return total & (parameters.t - 1)


def seeds_from_wire(seeds: npt.NDArray[np.uint8], count: int, sender: str) -> npt.NDArray[np.uint8]:
    """Check seeds from a peer.

    Raises:
        ProtocolError: the number or length of the seeds is wrong.
    """
    if seeds.shape != (count, SEED_BYTES):
        raise ProtocolError(
            f"{sender} sent seeds of shape {seeds.shape}, expected {(count, SEED_BYTES)}",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    return seeds


def _malformed(owner: str) -> ProtocolError:
    return ProtocolError(
        f"the public encryption key of {owner} is malformed or made for other parameters",
        remedy="check that every party runs the same version of vfl and the same job file",
    )
