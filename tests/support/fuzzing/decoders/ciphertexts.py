"""Targets: public keys, ciphertexts and shares of a peer, in a small ring. Inputs are recipes of changes to valid ones.

Nothing that a peer sends reaches SEAL: it makes secret keys, and reads ciphertexts only that were made here.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np

from support.fuzzing.edits import RECIPES, edited, frame, framed
from support.fuzzing.registry import MEBIBYTE, fuzz_target
from vfl.he.ciphertexts import from_wire, seeded_from_wire, to_wire
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.parameters import Parameters, RingSettings
from vfl.messages import EncryptedActivations, ForwardShare, MaskedActivationProduct
from vfl.messages.exchange import check_share
from vfl.privacy.agreement import AgreementKey

RING = RingSettings(degree=4096, prime_bits=27, primes=3, tau=40, activation_bits=6, weight_bits=24, gradient_bits=6)
PARAMETERS = Parameters.validated(RING)
LEVEL, DEGREE, POSITIONS = len(PARAMETERS.primes), PARAMETERS.degree, 32
SHAPES = (LEVEL, 1, 0, 3, 432, DEGREE, 1 << 20)
"""Sizes of a dimension that an input may ask for, by a byte of it."""


@cache
def _key() -> SecretKey:
    return SecretKey(PARAMETERS)


@cache
def _public() -> bytes:
    return _key().public.to_bytes()


@fuzz_target(lambda: [b"R", *(b"E" + recipe for recipe in RECIPES)], room=16 * MEBIBYTE)
def public_key(data: bytes) -> None:
    """A peer's encryption key: the bytes themselves, or after an E the changes to a valid one."""
    content = edited(_public(), data[1:]) if data[:1] == b"E" else data[1:]
    PublicKey.from_bytes(PARAMETERS, content, "shop").encrypt_zeros(1)


@cache
def _fresh() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ciphertext: its first polynomial whole, the first coefficients of it, its seed."""
    fresh = _key().encrypt_zeros(1)
    return to_wire(PARAMETERS, fresh.first), to_wire(PARAMETERS, fresh.first[..., :POSITIONS]), fresh.seeds


def _reshaped(content: bytes, dtype: str, shape: bytes, usual: tuple[int, ...]) -> np.ndarray:
    """An array as the codec hands it out: of the right element type and number of dimensions, of any shape."""
    array = np.frombuffer(content[: len(content) // np.dtype(dtype).itemsize * np.dtype(dtype).itemsize], dtype)
    if array.size == np.prod(usual) and not shape:
        return array.reshape(usual)
    sizes = [SHAPES[byte % len(SHAPES)] for byte in shape[: len(usual) - 1]]
    sizes += [1] * (len(usual) - 1 - len(sizes))
    rest = array.size // max(int(np.prod(sizes)), 1) if np.prod(sizes) else 0
    return array[: int(np.prod([*sizes, rest]))].reshape(*sizes, rest)


def _recipes() -> Iterator[bytes]:
    for recipe in RECIPES:
        yield framed([recipe, b"", b""])
    yield framed([b"", b"\x00\x01", b"\x01"])


@fuzz_target(_recipes, room=16 * MEBIBYTE)
def fresh_ciphertexts(data: bytes) -> None:
    """F1 and B1: first polynomials and seeds."""
    recipe, shape, seeds = frame(data, 3)
    words, _, valid_seeds = _fresh()
    first = _reshaped(edited(words.tobytes(), recipe), "uint32", shape, words.shape)
    message = EncryptedActivations(first, _reshaped(edited(valid_seeds.tobytes(), seeds), "uint8", shape, (1, 32)))
    seeded_from_wire(PARAMETERS, message.ct_first_CLW, message.seeds_C, 1, "shop", "activations")


@fuzz_target(_recipes, room=16 * MEBIBYTE)
def returned_ciphertexts(data: bytes) -> None:
    """F2 and B2: some coefficients of the first polynomials, the second ones whole; then decrypted."""
    recipe, shape, second_recipe = frame(data, 3)
    words, few, _ = _fresh()
    first = _reshaped(edited(few.tobytes(), recipe), "uint32", shape, few.shape)
    second = _reshaped(edited(words.tobytes(), second_recipe), "uint32", shape, words.shape)
    message = MaskedActivationProduct(first, second)
    positions = np.arange(POSITIONS, dtype=np.int64)
    residues = from_wire(PARAMETERS, message.ct_first_CLW, (1, LEVEL, POSITIONS), "bank", "a product")
    whole = from_wire(PARAMETERS, message.ct_second_CLW, (1, LEVEL, DEGREE), "bank", "a product")
    _key().decrypt_at(residues, whole, positions)


@fuzz_target(lambda: [np.arange(-4, 4).tobytes(), np.full(8, -(2**39)).tobytes(), np.full(8, 2**63 - 1).tobytes()])
def share(data: bytes) -> None:
    """F3 and B3: a matrix over the ring."""
    matrix = np.frombuffer(data[: len(data) // 8 * 8], np.int64)
    matrix = matrix.reshape(-1, 4) if matrix.size % 4 == 0 else matrix.reshape(1, -1)
    message = ForwardShare(matrix)
    check_share(message.sh_z_BK, (2, 4), PARAMETERS.tau, "shop", "its share")


@cache
def _agreement() -> AgreementKey:
    return AgreementKey()


@fuzz_target(lambda: [AgreementKey().public_bytes, bytes(32), b"\x01" + bytes(31)])
def agreement_key(data: bytes) -> None:
    """The X25519 key that pairwise masks are drawn from."""
    _agreement().agree(data, "bank", "shop").derive_key("mask")
