"""Encrypting, hiding, sending and decrypting packed matrices. Ciphertexts are residues (C, 2, L, N)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import ProtocolError
from vfl.he.arithmetic.bits import pack_bits, packed_words, unpack_bits
from vfl.he.arithmetic.compute import spread
from vfl.he.arithmetic.residues import drop_primes, flooding_noise, prime_column, scaled_plaintext
from vfl.he.keys import PublicKey, SeededCiphertexts, seeds_from_wire
from vfl.he.parameters import Parameters
from vfl.runtime.randomness import uniform_ring

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Cover:
    """What hides one ciphertext before it returns to the owner of its key; used for one ciphertext only.

    Attributes:
        first: first polynomial of an encryption of the mask, flooded, at U positions: (L, U) int32.
        second: its second polynomial, (L, N) int32.
        mask: uniform in Z_t at each of the positions, (U,).
    """

    first: torch.Tensor
    second: torch.Tensor
    mask: IntArray


@dataclass(frozen=True, slots=True)
class Returned:
    """Hidden ciphertexts as they are sent: all of c1, but c0 only at the positions that the key owner reads.

    Attributes:
        first: c0 at U positions, (C, level, U).
        second: c1, (C, level, N).
    """

    first: torch.Tensor
    second: torch.Tensor


def encrypt(parameters: Parameters, zeros: SeededCiphertexts, coefficients: IntArray) -> SeededCiphertexts:
    """Fresh encryptions of coefficient vectors (C, N), taken modulo t, from as many unused encryptions of zero."""
    level = len(parameters.primes)
    first = zeros.first + scaled_plaintext(parameters, coefficients, level)
    return SeededCiphertexts(first.remainder_(prime_column(parameters, level)), zeros.seeds)


def uniform_mask(parameters: Parameters, positions: IntArray) -> IntArray:
    """Uniform elements of Z_t for every coefficient that is sent, (U,), whether it holds an entry or not."""
    return uniform_ring(positions.shape, parameters.tau)


def make_cover(parameters: Parameters, owner: PublicKey, flooding_bits: int, positions: IntArray) -> Cover:
    """A cover for a ciphertext of ``owner`` whose first polynomial is sent at these positions only.

    (a) Its mask makes every coefficient of the plaintext that can be decrypted uniform; (b) a fresh public-key
    encryption of zero re-randomizes the second polynomial, which would otherwise be a linear function of the plain
    factor; (c) flooding noise covers the noise, which would otherwise be one as well. None of it depends on what it
    will hide.
    """
    level = len(parameters.primes)
    mask = uniform_mask(parameters, positions)
    zero = owner.encrypt_zeros(1)[0]
    first = zero[0][:, torch.from_numpy(positions)]
    first += scaled_plaintext(parameters, mask, level)
    first += flooding_noise(parameters, mask.shape, flooding_bits, level)
    first.remainder_(prime_column(parameters, level))
    return Cover(first.to(torch.int32), zero[1].to(torch.int32), mask)


def hide(
    parameters: Parameters, product: torch.Tensor, covers: Sequence[Cover], level: int, positions: IntArray
) -> Returned:
    """Make products (C, 2, L, N) safe to return to the owner of their key, each with its own cover.

    Args:
        level: primes to keep; those that decryption does not need are dropped, as the last operation.
        positions: the coefficients that the owner reads, for which the covers were made.
    """
    primes, where = prime_column(parameters, product.shape[2]), torch.from_numpy(positions)
    first = torch.empty((len(covers), level, len(positions)), dtype=torch.int64)
    second = torch.empty((len(covers), level, parameters.degree), dtype=torch.int64)

    # One ciphertext at a time stays in the processor's cache.
    def hide_one(index: int) -> None:
        cover = covers[index]
        hidden_first = (product[index, 0][:, where] + cover.first).remainder_(primes)
        first[index] = drop_primes(parameters, hidden_first, level)
        hidden_second = (product[index, 1] + cover.second).remainder_(primes)
        second[index] = drop_primes(parameters, hidden_second, level)

    spread(hide_one, range(len(covers)))
    return Returned(first, second)


def to_wire(parameters: Parameters, residues: torch.Tensor) -> npt.NDArray[np.uint32]:
    """Residues (C, L, n) as they are sent: packed to the bits of the primes, (C, L, words)."""
    return pack_bits(residues.numpy(), parameters.settings.prime_bits)


def from_wire(
    parameters: Parameters, words: npt.NDArray[np.uint32], expected: tuple[int, int, int], sender: str, what: str
) -> torch.Tensor:
    """Residues (C, level, n) from a peer, checked against the ``expected`` shape and the range of each prime.

    Raises:
        ProtocolError: wrong shape, or a residue not below its prime; names the sender.
    """
    count, level, values = expected
    bits = parameters.settings.prime_bits
    if words.shape != (packed := (count, level, packed_words(values, bits))):
        raise ProtocolError(
            f"{sender} sent {what} as ciphertexts of shape {words.shape}, expected {packed}",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    residues = torch.from_numpy(unpack_bits(words, values, bits))
    if words.size and bool((residues >= prime_column(parameters, level)).any()):
        raise ProtocolError(
            f"{sender} sent {what} with residues outside their modulus",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    return residues


def seeded_from_wire(
    parameters: Parameters,
    words: npt.NDArray[np.uint32],
    seeds: npt.NDArray[np.uint8],
    count: int,
    sender: str,
    what: str,
) -> torch.Tensor:
    """Fresh ciphertexts (C, 2, L, N) from a peer's first polynomials and seeds, checked in the same way.

    Raises:
        ProtocolError: wrong shape, or a residue not below its prime; names the sender.
    """
    first = from_wire(parameters, words, (count, len(parameters.primes), parameters.degree), sender, what)
    return SeededCiphertexts(first, seeds_from_wire(seeds, count, sender)).expanded(parameters)
