"""Whoever receives ciphertexts without their key reads the key or the plaintexts, where encryption is weakened.

Each attack succeeds on a build without the one ingredient that stops it, and finds nothing on ours.
"""

import numpy as np
import pytest
import torch
from support.attacks.key_owner import centered_integers, integers, secret_coefficients
from support.attacks.uniformity import looks_uniform
from support.attacks.weakened import with_one_seed, with_zero_ternary, without_errors
from support.layers.ciphertexts import encrypted, uniform_plaintexts
from support.layers.interaction import PARAMETERS

from vfl.he.keys import SecretKey

DEGREE, PRIME = PARAMETERS.degree, PARAMETERS.primes[0]


@pytest.fixture
def key():
    """A sound key pair."""
    return SecretKey(PARAMETERS)


def _root() -> int:
    """A root of X^N + 1 modulo the first prime."""
    candidates = (pow(base, (PRIME - 1) // (2 * DEGREE), PRIME) for base in range(2, PRIME))
    return next(root for root in candidates if pow(root, DEGREE, PRIME) == PRIME - 1)


def _cyclic(rows: np.ndarray, root: int) -> np.ndarray:
    """Values of polynomials (R, n) modulo the first prime at all powers of a primitive n-th root of unity."""
    if rows.shape[1] == 1:
        return rows
    even, odd = np.split(_cyclic(np.concatenate((rows[:, ::2], rows[:, 1::2])), root * root % PRIME), 2)
    odd = odd * _powers(root, odd.shape[1]) % PRIME
    return np.concatenate((even + odd, even - odd), axis=1) % PRIME


def _powers(base: int, count: int) -> np.ndarray:
    return np.array([pow(base, k, PRIME) for k in range(count)])


def _quotient(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Numerator / denominator modulo X^N + 1 and the first prime, centered."""
    root = _root()
    values = _cyclic(np.stack((numerator, denominator)) * _powers(root, DEGREE) % PRIME, root * root % PRIME)
    inverses = np.array([pow(int(value), -1, PRIME) for value in values[1]])
    quotient = _cyclic((values[0] * inverses % PRIME)[None], pow(root, -2, PRIME))[0]
    quotient = quotient * _powers(pow(root, -1, PRIME), DEGREE) % PRIME * pow(DEGREE, -1, PRIME) % PRIME
    return centered_integers(quotient, PRIME).astype(np.int64)


def _secret_of(public_key: bytes) -> np.ndarray:
    """-b / a: the secret, if the key (b, a) had no errors."""
    b, a = np.frombuffer(public_key, dtype="<u4").astype(np.int64).reshape(2, -1, DEGREE)[:, 0]
    return _quotient(-b % PRIME, a)


def test_a_public_key_without_errors_gives_the_secret_away(monkeypatch):
    without_errors(monkeypatch)
    key = SecretKey(PARAMETERS)
    np.testing.assert_array_equal(_secret_of(key.public.to_bytes()), secret_coefficients(PARAMETERS, key))


def test_our_public_key_divides_to_nothing(key):
    found = _secret_of(key.public.to_bytes())
    assert looks_uniform(found, PRIME)
    assert (found != secret_coefficients(PARAMETERS, key)).mean() > 0.99


def _difference_of_plaintexts(ciphertexts: torch.Tensor) -> np.ndarray:
    """From two ciphertexts: the first polynomials' difference, scaled down; what the second ones add must cancel."""
    level = ciphertexts.shape[2]
    difference = integers(PARAMETERS, (ciphertexts[0, 0] - ciphertexts[1, 0]).numpy())
    q = PARAMETERS.modulus(level)
    return ((2 * PARAMETERS.t * difference + q) // (2 * q) % PARAMETERS.t).astype(np.int64)


def test_ciphertexts_with_one_seed_give_differences_away(monkeypatch, key):
    with_one_seed(monkeypatch)
    plaintext = uniform_plaintexts(PARAMETERS, 2)
    ciphertexts = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    expected = (plaintext[0] - plaintext[1]) % PARAMETERS.t
    np.testing.assert_array_equal(_difference_of_plaintexts(ciphertexts), expected)


def test_the_difference_of_our_ciphertexts_reveals_nothing(key):
    plaintext = np.zeros((2, DEGREE), dtype=np.int64)
    found = _difference_of_plaintexts(encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS))
    assert looks_uniform(found, PARAMETERS.t)


def test_encryptions_of_zero_that_are_errors_alone_hide_nothing(monkeypatch, key):
    """What is added to the second polynomial is small, so its leading part stays readable."""
    with_zero_ternary(monkeypatch)
    zeros = key.public.encrypt_zeros(2)
    assert np.abs(integers(PARAMETERS, zeros.numpy())).max() < 64


def test_our_encryptions_of_zero_are_of_full_size(key):
    zeros = key.public.encrypt_zeros(2).numpy()
    for part in (0, 1):
        for level, prime in enumerate(PARAMETERS.primes):
            assert looks_uniform(zeros[:, part, level], prime)
