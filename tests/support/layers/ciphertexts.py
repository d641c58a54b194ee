"""Encrypts and hides whole ciphertexts, as the protocol does part by part."""

from __future__ import annotations

import numpy as np
import torch

from vfl.he.ciphertexts import encrypt, hide, make_cover
from vfl.he.keys import PublicKey, SecretKey, SeededCiphertexts
from vfl.he.noise import Hiding
from vfl.he.parameters import Parameters
from vfl.runtime.randomness import uniform_ring


def uniform_plaintexts(parameters: Parameters, count: int) -> np.ndarray:
    """Coefficient vectors (count, N), uniform in Z_t."""
    return uniform_ring((count, parameters.degree), parameters.tau)


def encrypted(parameters: Parameters, key: SecretKey, coefficients: np.ndarray) -> SeededCiphertexts:
    """Fresh encryptions of coefficient vectors (C, N)."""
    return encrypt(parameters, key.encrypt_zeros(coefficients.shape[0]), coefficients)


def hidden(
    parameters: Parameters, owner: PublicKey, product: torch.Tensor, hiding: Hiding
) -> tuple[torch.Tensor, np.ndarray]:
    """Products (C, 2, L, N) hidden at every coefficient: ciphertexts (C, 2, level, N) and their masks (C, N)."""
    everywhere = np.arange(parameters.degree)
    covers = [make_cover(parameters, owner, hiding.flooding_bits, everywhere) for _ in range(product.shape[0])]
    returned = hide(parameters, product, covers, hiding.level, everywhere)
    return torch.stack((returned.first, returned.second), dim=1), np.stack([cover.mask for cover in covers])
