"""Encrypting, hiding, sending and decrypting packed matrices. Ciphertexts are residues (C, 2, L, N)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import ProtocolError
from vfl.he.noise import Hiding
from vfl.he.parameters import Parameters
from vfl.he.residues import drop_primes, flooding_noise, prime_column, scaled_plaintext
from vfl.he.seal import PublicKey, SecretKey
from vfl.randomness import uniform_ring

IntArray = npt.NDArray[np.int64]


def encrypt(parameters: Parameters, key: SecretKey, coefficients: IntArray) -> torch.Tensor:
    """Fresh encryptions of coefficient vectors (C, N), taken modulo t."""
    ciphertexts = key.encrypt_zeros(coefficients.shape[0])
    return _add_plaintext(parameters, ciphertexts, coefficients)


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
    masked = _add_plaintext(parameters, product, mask)
    rerandomised = masked + owner.encrypt_zeros(product.shape[0])
    level = product.shape[2]
    rerandomised[:, 0] += flooding_noise(parameters, mask.shape, hiding.flooding_bits, level)
    rerandomised.remainder_(prime_column(parameters, level))
    return drop_primes(parameters, rerandomised, hiding.level)


def to_wire(ciphertexts: torch.Tensor) -> npt.NDArray[np.uint32]:
    """Residues as they are sent: 4 bytes each."""
    return ciphertexts.numpy().astype(np.uint32)


def from_wire(
    parameters: Parameters, words: npt.NDArray[np.uint32], count: int, level: int, sender: str, what: str
) -> torch.Tensor:
    """Residues from a peer, checked against the expected number of ciphertexts, primes and their range.

    Raises:
        ProtocolError: naming the sender: wrong shape or a residue not below its prime.
    """
    expected = (count, 2, level, parameters.degree)
    if words.shape != expected:
        raise ProtocolError(
            f"{sender} sent {what} as ciphertexts of shape {words.shape}, expected {expected}",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    ciphertexts = torch.from_numpy(words.astype(np.int64))
    if count and bool((ciphertexts >= prime_column(parameters, level)).any()):
        raise ProtocolError(
            f"{sender} sent {what} with residues outside their modulus",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    return ciphertexts


def _add_plaintext(parameters: Parameters, ciphertexts: torch.Tensor, coefficients: IntArray) -> torch.Tensor:
    level = ciphertexts.shape[2]
    out = ciphertexts.clone()
    out[:, 0] += scaled_plaintext(parameters, coefficients, level)
    return out.remainder_(prime_column(parameters, level))
