"""Random polynomials for encryption: uniform, ternary and error, from a stream cipher keyed by the system.

Distributions are SEAL's: uniform modulo each prime by rejection, uniform ternary, centered binomial over 42 bits
(standard deviation 3.24, HomomorphicEncryption.org security standard, 2018).
"""

from __future__ import annotations

import os

import numpy as np
import numpy.typing as npt
import torch

from vfl.errors import InternalError
from vfl.runtime.randomness import SEED_BYTES, expand, secret_stream

_HALF_ERROR_BITS = 21


def fresh_seeds(count: int) -> npt.NDArray[np.uint8]:
    """Seeds for ``uniform_residues``: (count, 32)."""
    return np.frombuffer(os.urandom(SEED_BYTES * count), dtype=np.uint8).reshape(count, SEED_BYTES)


def uniform_residues(seed: bytes, primes: tuple[int, ...], degree: int) -> torch.Tensor:
    """A polynomial uniform modulo every prime, determined by its seed: (L, N) int64."""
    bits = max(primes).bit_length()
    # Rejections are binomial; more than twice their mean plus 128 will not occur in the lifetime of the universe.
    candidates = degree + 128 + 2 * max(-(-degree * ((1 << bits) - q) // q) for q in primes)
    words = np.frombuffer(expand(seed, 4 * len(primes) * candidates), dtype="<u4").reshape(len(primes), candidates)
    words = words & np.uint32((1 << bits) - 1)
    out = np.empty((len(primes), degree), dtype=np.int64)
    for index, prime in enumerate(primes):
        out[index] = _first(words[index], words[index] < prime, degree)
    return torch.from_numpy(out)


def ternary(count: int, degree: int) -> torch.Tensor:
    """Uniform polynomials with coefficients -1, 0, 1: (count, N) float64."""
    needed = count * degree
    stream = np.frombuffer(secret_stream(needed + needed // 64 + 128), dtype=np.uint8)
    values = _first(stream, stream < 255, needed).astype(np.float64) % 3 - 1
    return torch.from_numpy(values.reshape(count, degree))


def errors(*shape: int) -> torch.Tensor:
    """Error polynomials: the difference of two sums of 21 random bits, int64."""
    words = np.frombuffer(secret_stream(8 * int(np.prod(shape))), dtype="<u8").reshape(shape)
    mask = np.uint64((1 << _HALF_ERROR_BITS) - 1)
    ones = np.bitwise_count(words & mask).astype(np.int64)
    return torch.from_numpy(ones - np.bitwise_count((words >> np.uint64(_HALF_ERROR_BITS)) & mask))


def _first(
    values: npt.NDArray[np.unsignedinteger], accepted: npt.NDArray[np.bool_], count: int
) -> npt.NDArray[np.unsignedinteger]:
    kept = values[accepted]
    if kept.size < count:
        raise InternalError("rejection sampling ran out of candidates")
    return kept[:count]
