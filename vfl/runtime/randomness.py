"""Secret and training randomness, which never mix.

Secret randomness (masks, shares, flooding) comes from the operating system's generator, either directly or, many times
faster, from a stream cipher whose key comes from it. Training randomness (initial weights, stochastic rounding,
shuffling) is reproducible from seeds and is never used to hide anything. Noise on outputs is neither: it hides, and has
to be the same in an equal replay, so its key comes from the private seed (``vfl.privacy.output_noise``).
"""

from __future__ import annotations

import hashlib
import hmac
import os

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

SEED_BYTES = 32
_NONCE = bytes(16)


def expand(seed: bytes, length: int) -> bytes:
    """The first bytes of the ChaCha20 stream of a 32-byte seed. Expand each seed for one purpose only."""
    return Cipher(algorithms.ChaCha20(seed, _NONCE), mode=None).encryptor().update(bytes(length))


def secret_stream(length: int) -> bytes:
    """Random bytes: ChaCha20 under a fresh key from the operating system's generator."""
    return expand(os.urandom(SEED_BYTES), length)


def uniform_words(shape: tuple[int, ...], bits: int) -> npt.NDArray[np.int64]:
    """Independent uniform secret integers in [0, 2^bits), for ``bits`` up to 63."""
    count = int(np.prod(shape))
    words = np.frombuffer(secret_stream(8 * count), dtype=np.uint64).reshape(shape)
    return (words >> np.uint64(64 - bits)).view(np.int64)


def uniform_ring(shape: tuple[int, ...], tau: int) -> npt.NDArray[np.int64]:
    """Uniform elements of Z_t, t = 2^tau, as centered representatives in [-t/2, t/2)."""
    return uniform_words(shape, tau) - (1 << (tau - 1))


def derive_entropy(secret: bytes, *labels: str | int) -> int:
    """256 bits for a training generator, bound to ``labels``, from a party's private seed (HMAC-SHA-256)."""
    message = "\x1f".join(str(label) for label in labels).encode()
    return int.from_bytes(hmac.new(secret, message, hashlib.sha256).digest(), "big")


def derive_seed(secret: bytes, *labels: str | int) -> int:
    """As ``derive_entropy``, but 63 bits, for libraries that accept no more."""
    return derive_entropy(secret, *labels) >> 193


def training_generator(entropy: int) -> np.random.Generator:
    """A reproducible generator for training. Never use it for masks, shares or keys."""
    return np.random.Generator(np.random.Philox(entropy))
