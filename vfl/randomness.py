"""Randomness, kept in two worlds that never mix.

Secret randomness (masks, shares, noise) comes from the operating system's generator. Training randomness (initial
weights, stochastic rounding, shuffling) is reproducible from seeds and is never used to hide anything.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

PRIVATE_SEED_BYTES = 32


def uniform_words(shape: tuple[int, ...], bits: int) -> npt.NDArray[np.int64]:
    """Independent uniform integers in [0, 2^bits) from the operating system's generator, for ``bits`` up to 63."""
    count = int(np.prod(shape))
    words = np.frombuffer(os.urandom(8 * count), dtype=np.uint64).reshape(shape)
    return (words >> np.uint64(64 - bits)).view(np.int64)


def uniform_ring(shape: tuple[int, ...], tau: int) -> npt.NDArray[np.int64]:
    """Uniform elements of Z_t, t = 2^tau, as centred representatives in [-t/2, t/2)."""
    return uniform_words(shape, tau) - (1 << (tau - 1))


def derive_seed(secret: bytes, *labels: str | int) -> int:
    """A 64-bit training seed bound to ``labels``, from a party's private seed (HMAC-SHA-256)."""
    message = "\x1f".join(str(label) for label in labels).encode()
    return int.from_bytes(hmac.new(secret, message, hashlib.sha256).digest()[:8], "big") >> 1


def training_generator(seed: int) -> np.random.Generator:
    """A reproducible generator for training. Never for masks, shares or keys."""
    return np.random.Generator(np.random.Philox(seed))


def load_private_seed(path: Path) -> bytes:
    """The party's private training seed, made on first use (mode 0600).

    It keeps initial bottom weights unpredictable to peers, who know the job seed, while the same job at the same
    parties gives the same weights again.

    Raises:
        ConfigError: the file exists and does not hold a seed, or cannot be written.
    """
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(os.urandom(PRIVATE_SEED_BYTES).hex() + "\n", encoding="ascii")
        seed = bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the private seed file cannot be used",
            detail=f"{path}: {error}",
            remedy="make the file readable and writable, or remove it so that a new one is made",
        ) from error
    if len(seed) != PRIVATE_SEED_BYTES:
        raise ConfigError(
            "the private seed file does not hold a seed",
            detail=f"{path}: {len(seed)} bytes, expected {PRIVATE_SEED_BYTES} as hexadecimal digits",
            remedy="remove the file so that a new one is made",
        )
    return seed
