"""Keys encrypt what SEAL decrypts, each time afresh; peers' keys are checked; secret keys do not leave their object."""

import copy
import pickle
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.key_owner import (
    exact_product,
    negacyclic,
    phase,
    scaled_noise,
    secret_coefficients,
    to_residues,
)
from support.attacks.uniformity import looks_uniform
from support.layers.ciphertexts import encrypted, uniform_plaintexts

import vfl.he.keys
from vfl.errors import ProtocolError
from vfl.he.arithmetic.residues import drop_primes
from vfl.he.arithmetic.sampling import uniform_residues
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.noise import zero_encryption_noise
from vfl.he.parameters import MAX_ERROR, Parameters, RingSettings
from vfl.runtime.randomness import SEED_BYTES

PARAMETERS = Parameters.validated(RingSettings())
OTHERS = [
    RingSettings(degree=4096, prime_bits=27, primes=3, tau=40, activation_bits=6, weight_bits=24, gradient_bits=6),
    RingSettings(degree=16384, primes=14),
    RingSettings(prime_bits=20, primes=4, tau=40, activation_bits=6, weight_bits=24, gradient_bits=6),
]
LEVEL, DEGREE, PRIMES = len(PARAMETERS.primes), PARAMETERS.degree, PARAMETERS.primes
WORDS = 2 * LEVEL * DEGREE


@pytest.fixture(scope="module")
def key():
    return SecretKey(PARAMETERS)


@pytest.fixture(scope="module")
def secret(key):
    return secret_coefficients(PARAMETERS, key)


@pytest.fixture(scope="module")
def data(key):
    return key.public.to_bytes()


def _polynomials(data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype="<u4").astype(np.int64).reshape(2, LEVEL, DEGREE)


def _recorded(monkeypatch: pytest.MonkeyPatch, name: str) -> list[torch.Tensor]:
    """What this distribution yields from now on."""
    drawn, draw = [], getattr(vfl.he.keys, name)

    def remember(*shape):
        drawn.append(draw(*shape).clone())
        return drawn[-1]

    monkeypatch.setattr(vfl.he.keys, name, remember)
    return drawn


# --- the secret key ---


def test_secret_coefficients_are_ternary_balanced_and_of_one_key_only(secret):
    secrets = [secret, *(secret_coefficients(PARAMETERS, SecretKey(PARAMETERS)) for _ in range(2))]
    for one in secrets:
        values, counts = np.unique(one, return_counts=True)
        assert values.tolist() == [-1, 0, 1]
        assert np.abs(counts - DEGREE / 3).max() < 8 * (DEGREE * 2 / 9) ** 0.5
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (secrets[one] == secrets[other]).mean() == pytest.approx(1 / 3, abs=0.05)


def test_a_secret_key_cannot_be_copied_or_serialized(key):
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be serialized"):
            copying(key)


def test_a_secret_key_shows_nothing(key):
    assert repr(key).startswith("<vfl.he.keys.SecretKey object")


# --- decryption ---


def _with_noise(secret: np.ndarray, plaintext: np.ndarray, noise: np.ndarray, level: int) -> torch.Tensor:
    """Ciphertexts (C, 2, level, N) of plaintexts (C, N) whose noise is these Python integers (C, N) divided by t."""
    q = PARAMETERS.modulus(level)
    # The phase is the integer next to q / t m + noise.
    phases = (2 * (q * plaintext.astype(object) + noise) + PARAMETERS.t) // (2 * PARAMETERS.t)
    primes = np.array(PRIMES[:level])[:, None]
    c1 = np.random.default_rng(level).integers(0, primes, (plaintext.shape[0], level, DEGREE))
    c0 = to_residues(PARAMETERS, phases, level) - negacyclic(c1, secret)
    return torch.from_numpy(np.stack([c0 % primes, c1], axis=1))


@pytest.mark.parametrize("level", range(3, LEVEL + 1))
def test_decryption_is_that_of_seal_bit_for_bit(key, secret, level):
    """Without noise, with random noise and with the largest there may be in every coefficient: q / 2, divided by t."""
    q = PARAMETERS.modulus(level)
    # Within this of half a step neither rounding is certain; a bound of noise stays further away.
    largest = (q >> 1) - (q >> 30)
    random = np.array([int(v) for v in np.random.default_rng(0).integers(-(2**62), 2**62, DEGREE)], dtype=object)
    noises = np.stack([0 * random, random * largest >> 62, 0 * random + largest, 0 * random - largest])
    plaintext = uniform_plaintexts(PARAMETERS, 4) % PARAMETERS.t
    plaintext[:, :4] = (0, 1, PARAMETERS.t - 1, PARAMETERS.t // 2)
    ciphertexts = _with_noise(secret, plaintext, noises, level)
    assert np.abs(scaled_noise(PARAMETERS, secret, ciphertexts, plaintext)).max() > 0.99999 * (q >> 1)
    ours = key.decrypt(ciphertexts)
    if level < LEVEL:  # SEAL has no ciphertexts of all primes
        np.testing.assert_array_equal(ours, key._seal.decrypt(ciphertexts))
    np.testing.assert_array_equal(ours, plaintext)


@pytest.mark.parametrize("level", range(3, LEVEL + 1))
def test_more_noise_than_half_a_step_decrypts_to_the_neighbor(key, secret, level):
    """The test above can fail."""
    q = PARAMETERS.modulus(level)
    noise = np.full((1, DEGREE), (q >> 1) + (q >> 30), dtype=object)
    plaintext = uniform_plaintexts(PARAMETERS, 1) % PARAMETERS.t
    ciphertexts = _with_noise(secret, plaintext, noise, level)
    np.testing.assert_array_equal(key.decrypt(ciphertexts), (plaintext + 1) % PARAMETERS.t)
    if level < LEVEL:
        np.testing.assert_array_equal(key._seal.decrypt(ciphertexts), (plaintext + 1) % PARAMETERS.t)


@settings(max_examples=30, deadline=None)
@given(level=st.integers(2, LEVEL), seed=st.integers(0, 2**32), style=st.sampled_from(["uniform", "largest", "zero"]))
def test_any_residues_decrypt_as_the_exact_quotient_says(key, secret, level, seed, style):
    """Residues that nobody encrypted too: round(t / q (c0 + c1 s)) modulo t, in Python integers."""
    primes = np.array(PRIMES[:level])[:, None]
    shape = (1, 2, level, DEGREE)
    values = {"uniform": np.random.default_rng(seed).integers(0, primes, shape)}
    values |= {"largest": np.broadcast_to(primes - 1, shape).copy(), "zero": np.zeros(shape, dtype=np.int64)}
    ciphertexts, q = torch.from_numpy(values[style]), PARAMETERS.modulus(level)
    quotient = (2 * PARAMETERS.t * phase(PARAMETERS, secret, ciphertexts) + q) // (2 * q)
    np.testing.assert_array_equal(key.decrypt(ciphertexts), (quotient % PARAMETERS.t).astype(np.int64))


@pytest.mark.parametrize("ring", OTHERS, ids=lambda ring: f"{ring.degree}-{ring.primes}x{ring.prime_bits}")
def test_decryption_is_that_of_seal_for_other_parameters(ring):
    parameters = Parameters.validated(ring)
    key = SecretKey(parameters)
    plaintext = uniform_plaintexts(parameters, 2) % parameters.t
    full = encrypted(parameters, key, plaintext).expanded(parameters)
    for level in range(-(-parameters.tau // ring.prime_bits) + 1, ring.primes + 1):
        ciphertexts = drop_primes(parameters, full, level)
        if level < ring.primes:
            np.testing.assert_array_equal(key.decrypt(ciphertexts), key._seal.decrypt(ciphertexts))
        np.testing.assert_array_equal(key.decrypt(ciphertexts), plaintext)


@settings(max_examples=20, deadline=None)
@given(positions=st.lists(st.integers(0, DEGREE - 1), unique=True, max_size=200), level=st.integers(2, LEVEL))
def test_some_coefficients_decrypt_as_they_do_among_all(key, positions, level):
    """Others are zero and need no c0: it is not even given."""
    where = np.array(sorted(positions), dtype=np.int64)
    fresh = encrypted(PARAMETERS, key, uniform_plaintexts(PARAMETERS, 2)).expanded(PARAMETERS)
    ciphertexts = drop_primes(PARAMETERS, fresh, level)
    some = key.decrypt_at(ciphertexts[:, 0, :, torch.from_numpy(where)], ciphertexts[:, 1], where)
    assert some.shape == (2, DEGREE)
    np.testing.assert_array_equal(some[:, where], key.decrypt(ciphertexts)[:, where])
    assert np.count_nonzero(np.delete(some, where, axis=1)) == 0


def test_decryption_leaves_its_input_alone(key):
    ciphertexts = encrypted(PARAMETERS, key, uniform_plaintexts(PARAMETERS, 1)).expanded(PARAMETERS)
    before = ciphertexts.clone()
    key.decrypt(ciphertexts)
    assert torch.equal(ciphertexts, before)


# --- encryptions of zero ---


def test_symmetric_encryptions_are_exactly_what_their_draws_give(monkeypatch, key, secret):
    errors = _recorded(monkeypatch, "errors")
    zeros = key.encrypt_zeros(2)
    assert len(errors) == 2
    for index, error in enumerate(errors):
        a = uniform_residues(zeros.seeds[index].tobytes(), PRIMES, DEGREE).numpy()
        for level, prime in enumerate(PRIMES):
            expected = (error[0].numpy() - exact_product(a[level], secret)) % prime
            np.testing.assert_array_equal(zeros.first[index, level].numpy(), expected)


def test_public_encryptions_are_exactly_what_their_draws_give(monkeypatch, key, data):
    errors, ternaries = _recorded(monkeypatch, "errors"), _recorded(monkeypatch, "ternary")
    zeros = key.public.encrypt_zeros(2).numpy()
    us = np.concatenate([drawn.numpy() for drawn in ternaries]).astype(np.int64)
    es = np.stack([drawn.numpy() for drawn in errors]).reshape(2, 2, DEGREE)
    assert (us[0] != us[1]).any()
    assert len({one.tobytes() for one in es.reshape(4, DEGREE)}) == 4
    for index, part, level in np.ndindex(2, 2, LEVEL):
        product = exact_product(_polynomials(data)[part, level], us[index])
        expected = (product + es[index, part]) % PRIMES[level]
        np.testing.assert_array_equal(zeros[index, part, level], expected)


@pytest.mark.parametrize("level", [3, 4, 5, 6])
def test_seal_decrypts_encryptions_of_zero_at_every_level(key, level):
    for zeros in (key.encrypt_zeros(2).expanded(PARAMETERS), key.public.encrypt_zeros(2)):
        assert zeros.shape == (2, 2, LEVEL, DEGREE)
        assert (key._seal.decrypt(drop_primes(PARAMETERS, zeros, level)) == 0).all()


@pytest.mark.parametrize("ring", OTHERS, ids=lambda ring: f"{ring.degree}-{ring.primes}x{ring.prime_bits}")
def test_encryptions_of_zero_are_right_for_other_parameters(ring):
    parameters = Parameters.validated(ring)
    key = SecretKey(parameters)
    secret = secret_coefficients(parameters, key)
    symmetric, public = key.encrypt_zeros(1).expanded(parameters), key.public.encrypt_zeros(1)
    both = torch.cat((symmetric, public))
    assert (key.decrypt(both) == 0).all()
    assert (key._seal.decrypt(drop_primes(parameters, both, ring.primes - 1)) == 0).all()
    assert 5 < np.abs(phase(parameters, secret, symmetric)).max() <= MAX_ERROR
    assert 5 * MAX_ERROR < np.abs(phase(parameters, secret, public)).max() <= zero_encryption_noise(parameters)


def test_a_public_key_is_itself_an_encryption_of_zero_with_errors(secret, data):
    noise = phase(PARAMETERS, secret, torch.from_numpy(_polynomials(data)[None])).astype(np.int64)
    assert np.abs(noise).max() <= MAX_ERROR
    assert noise.std() == pytest.approx(10.5**0.5, rel=0.05)


def test_no_two_encryptions_of_zero_share_a_polynomial(key, data):
    received = PublicKey.from_bytes(PARAMETERS, data, "bank")
    zeros = [public.encrypt_zeros(count) for public in (key.public, received) for count in (1, 2, 1)]
    zeros += [key.encrypt_zeros(count).expanded(PARAMETERS) for count in (1, 2, 1)]
    polynomials = torch.cat([torch.from_numpy(_polynomials(data)[None]), *zeros]).flatten(0, 2)
    assert len({polynomial.numpy().tobytes() for polynomial in polynomials}) == 13 * 2 * LEVEL


def test_all_polynomials_of_encryptions_of_zero_are_uniform(key):
    for zeros in (key.encrypt_zeros(2).expanded(PARAMETERS), key.public.encrypt_zeros(2)):
        for part, level in np.ndindex(2, LEVEL):
            assert looks_uniform(zeros[:, part, level].numpy(), PRIMES[level])


def test_no_encryptions_are_fine(key):
    assert key.public.encrypt_zeros(0).shape == (0, 2, LEVEL, DEGREE)
    none = key.encrypt_zeros(0)
    assert none.seeds.shape == (0, SEED_BYTES)
    assert none.expanded(PARAMETERS).shape == (0, 2, LEVEL, DEGREE)


# --- public keys of peers ---


def test_a_received_public_key_encrypts_for_its_owner(key, data):
    received = PublicKey.from_bytes(PARAMETERS, data, "bank")
    assert received.to_bytes() == data
    assert (key.decrypt(received.encrypt_zeros(2)) == 0).all()
    assert (SecretKey(PARAMETERS).decrypt(received.encrypt_zeros(1)) != 0).mean() > 0.99


def _refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        PublicKey.from_bytes(PARAMETERS, data, "bank")
    assert caught.value.summary == "the public encryption key of bank is malformed or made for other parameters"
    assert caught.value.remedy


@pytest.mark.parametrize("length", [0, 1, 4, 4 * DEGREE, 2 * WORDS, 4 * WORDS - 4, 4 * WORDS - 1])
def test_a_public_key_of_another_length_is_refused(data, length):
    _refused(data[:length])
    _refused(data + data[: max(length, 1)])


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    _refused(data)


@pytest.mark.parametrize("index", range(2 * LEVEL))
def test_residues_outside_their_prime_are_refused(data, index):
    prime = PRIMES[index % LEVEL]
    start = 4 * (index * DEGREE + 77)
    for word in (prime, 2**31, 2**32 - 1):
        _refused(data[:start] + struct.pack("<I", word) + data[start + 4 :])
    PublicKey.from_bytes(PARAMETERS, data[:start] + struct.pack("<I", prime - 1) + data[start + 4 :], "bank")


@pytest.mark.parametrize("index", range(2 * LEVEL))
def test_a_public_key_with_a_zero_polynomial_is_refused(data, index):
    """It would leave one polynomial of a hidden product as it was, modulo that prime."""
    start, end = 4 * index * DEGREE, 4 * (index + 1) * DEGREE
    _refused(data[:start] + bytes(end - start) + data[end:])
    _refused(bytes(len(data)))


@pytest.mark.parametrize("changes", [{"primes": 5}, {"degree": 16384, "primes": 6}, {"prime_bits": 29}])
def test_a_public_key_of_other_parameters_is_refused(data, changes):
    """Another modulus shows in the length, or in residues of larger primes than expected."""
    with pytest.raises(ProtocolError, match="of bank is malformed"):
        PublicKey.from_bytes(Parameters.validated(RingSettings(**changes)), data, "bank")
