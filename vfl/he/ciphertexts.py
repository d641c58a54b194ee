"""Encrypting, hiding, sending and decrypting packed matrices. Ciphertexts are residues (C, 2, L, N)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import ProtocolError
from vfl.he.keys import PublicKey, SecretKey, SeededCiphertexts, seeds_from_wire
from vfl.he.noise import Hiding
from vfl.he.parallel import spread
from vfl.he.parameters import Parameters
from vfl.he.residues import drop_primes, flooding_noise, prime_column, scaled_plaintext
from vfl.randomness import uniform_ring

IntArray = npt.NDArray[np.int64]


def encrypt(parameters: Parameters, key: SecretKey, coefficients: IntArray) -> SeededCiphertexts:
    """Fresh encryptions of coefficient vectors (C, N), taken modulo t."""
    zeros = key.encrypt_zeros(coefficients.shape[0])
    level = len(parameters.primes)
    first = zeros.first + scaled_plaintext(parameters, coefficients, level)
    return SeededCiphertexts(first.remainder_(prime_column(parameters, level)), zeros.seeds)


def uniform_mask(parameters: Parameters, count: int) -> IntArray:
    """Uniform elements of Z_t for every coefficient of ``count`` ciphertexts, used or not: (count, N)."""
    return uniform_ring((count, parameters.degree), parameters.tau)


def hide(
    parameters: Parameters, owner: PublicKey, product: torch.Tensor, mask: IntArray, hiding: Hiding
) -> torch.Tensor:
    """Make a product safe to return to the owner of its key: (C, 2, L, N) to (C, 2, hiding.level, N).

    (a) ``mask`` is added to every coefficient, so the plaintext is uniform; (b) a fresh public-key encryption of zero
    re-randomises the second polynomial, which otherwise is a linear function of the plain factor; (c) flooding noise
    drowns the noise, which otherwise is one too. The primes that correctness does not need are dropped last.
    """
    level, primes = product.shape[2], prime_column(parameters, product.shape[2])
    out = torch.empty((product.shape[0], 2, hiding.level, parameters.degree), dtype=torch.int64)

    # One ciphertext at a time stays in the processor's cache.
    def hide_one(index: int) -> None:
        hidden = product[index] + owner.encrypt_zeros(1)[0]
        hidden[0] += scaled_plaintext(parameters, mask[index], level)
        hidden[0] += flooding_noise(parameters, mask[index].shape, hiding.flooding_bits, level)
        out[index] = drop_primes(parameters, hidden.remainder_(primes), hiding.level)

    spread(hide_one, range(product.shape[0]))
    return out


def to_wire(residues: torch.Tensor) -> npt.NDArray[np.uint32]:
    """Residues as they are sent: 4 bytes each."""
    return residues.numpy().astype(np.uint32)


def from_wire(
    parameters: Parameters, words: npt.NDArray[np.uint32], count: int, level: int, sender: str, what: str
) -> torch.Tensor:
    """Ciphertexts (C, 2, level, N) from a peer, checked against the expected number, primes and range.

    Raises:
        ProtocolError: naming the sender; wrong shape or a residue not below its prime.
    """
    return _checked(parameters, words, (count, 2, level, parameters.degree), sender, what)


def seeded_from_wire(
    parameters: Parameters,
    words: npt.NDArray[np.uint32],
    seeds: npt.NDArray[np.uint8],
    count: int,
    sender: str,
    what: str,
) -> torch.Tensor:
    """Fresh ciphertexts (C, 2, L, N) from a peer's first polynomials and seeds, checked likewise.

    Raises:
        ProtocolError: naming the sender; wrong shape or a residue not below its prime.
    """
    first = _checked(parameters, words, (count, len(parameters.primes), parameters.degree), sender, what)
    return SeededCiphertexts(first, seeds_from_wire(seeds, count, sender)).expanded(parameters)


def _checked(
    parameters: Parameters, words: npt.NDArray[np.uint32], expected: tuple[int, ...], sender: str, what: str
) -> torch.Tensor:
    if words.shape != expected:
        raise ProtocolError(
            f"{sender} sent {what} as ciphertexts of shape {words.shape}, expected {expected}",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    residues = torch.from_numpy(words.astype(np.int64))
    if words.size and bool((residues >= prime_column(parameters, expected[-2])).any()):
        raise ProtocolError(
            f"{sender} sent {what} with residues outside their modulus",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    return residues
