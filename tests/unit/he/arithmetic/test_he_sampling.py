"""Every distribution that encryption draws from is the one the security estimate assumes, and no draw comes twice."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.uniformity import looks_uniform

import vfl.he.arithmetic.sampling
from vfl.errors import InternalError
from vfl.he.arithmetic.sampling import errors, fresh_seeds, ternary, uniform_residues
from vfl.he.parameters import MAX_ERROR, Parameters, RingSettings
from vfl.runtime.randomness import SEED_BYTES, expand, secret_stream

PARAMETERS = Parameters.validated(RingSettings())
DEGREE, PRIMES = PARAMETERS.degree, PARAMETERS.primes
SAMPLE = 1 << 20
MANY_REJECTIONS = (786433, 539653, 1032193)
"""Of 20 bits: reduction in place of rejection would be far from uniform."""


def _chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Standard deviations by which the chi-square statistic misses its mean."""
    expected = counts.sum() * probabilities
    freedom = counts.size - 1
    return abs(float(((counts - expected) ** 2 / expected).sum()) - freedom) / math.sqrt(2 * freedom)


def _correlation(values: np.ndarray, lag: int) -> float:
    """Standard deviations by which the correlation of a centered sequence with itself misses zero."""
    scaled = values / values.std()
    return abs(float(np.mean(scaled[:-lag] * scaled[lag:]))) * math.sqrt(values.size - lag)


# --- uniform residues ---


def test_the_stream_of_a_seed_is_chacha20():
    """Parties expand each other's seeds, so the stream may never change. First test vector of RFC 7539, A.1."""
    assert expand(bytes(32), 32).hex() == "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"


def test_residues_are_the_low_bits_of_the_stream_in_order():
    residues = uniform_residues(bytes(32), PRIMES, DEGREE)
    assert residues[0, :4].tolist() == [0x2DE0B876, 0x103DF1A0, 0x256A5D40, 0x28BD8653]


def test_words_outside_the_prime_are_passed_over(monkeypatch):
    prime = MANY_REJECTIONS[0]
    words = np.arange(20_000, dtype="<u4")
    words[[0, 2, 5]] = (prime, prime - 1 + (1 << 20), (1 << 20) - 1)
    monkeypatch.setattr(
        vfl.he.arithmetic.sampling, "expand", lambda seed, length: np.resize(words, length // 4).tobytes()
    )
    assert uniform_residues(b"", (prime,), 5).tolist() == [[1, prime - 1, 3, 4, 6]]


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=SEED_BYTES, max_size=SEED_BYTES), position=st.integers(0, 8 * SEED_BYTES - 1))
def test_a_seed_determines_its_residues_and_any_other_bit_changes_them(seed, position):
    residues = uniform_residues(seed, PRIMES, DEGREE)
    assert residues.shape == (len(PRIMES), DEGREE)
    assert bool((uniform_residues(seed, PRIMES, DEGREE) == residues).all())
    other = (int.from_bytes(seed, "big") ^ (1 << position)).to_bytes(SEED_BYTES, "big")
    assert int((uniform_residues(other, PRIMES, DEGREE) == residues).sum()) < 10


@pytest.mark.parametrize("primes", [PRIMES, MANY_REJECTIONS], ids=["default", "many rejections"])
def test_residues_are_uniform_modulo_every_prime_and_independent(primes):
    seeds = fresh_seeds(8)
    residues = np.stack([uniform_residues(seed.tobytes(), primes, DEGREE).numpy() for seed in seeds])
    for index, prime in enumerate(primes):
        values = residues[:, index]
        assert 0 <= values.min() < 0.01 * prime
        assert 0.99 * prime < values.max() < prime
        assert looks_uniform(values, prime)
        assert _correlation(values.ravel() - (prime - 1) / 2, 1) < 10
    first, second = residues[:, 0] / primes[0], residues[:, 1] / primes[1]
    assert looks_uniform(np.floor((first + second) % 1 * (1 << 20)), 1 << 20)


@pytest.mark.parametrize(("bits", "degree", "primes"), [(20, 4096, 4), (27, 4096, 3), (24, 16384, 12), (30, 16384, 12)])
def test_there_are_always_enough_candidates(bits, degree, primes):
    settings = RingSettings(prime_bits=bits, degree=degree, primes=primes)
    chosen = Parameters.validated(settings).primes
    for seed in fresh_seeds(10):
        assert uniform_residues(seed.tobytes(), chosen, degree).shape == (primes, degree)


def test_running_out_of_candidates_is_an_error(monkeypatch):
    """Rather than a polynomial that is too short or reuses random bits."""
    ones = {"expand": lambda seed, length: b"\xff" * length, "secret_stream": lambda length: b"\xff" * length}
    for name, stream in ones.items():
        monkeypatch.setattr(vfl.he.arithmetic.sampling, name, stream)
    with pytest.raises(InternalError, match="ran out"):
        uniform_residues(bytes(32), PRIMES, DEGREE)
    with pytest.raises(InternalError, match="ran out"):
        ternary(1, DEGREE)


# --- ternary and error polynomials ---


def test_ternary_polynomials_are_balanced():
    values = ternary(SAMPLE // DEGREE, DEGREE).numpy()
    assert values.shape == (SAMPLE // DEGREE, DEGREE)
    found, counts = np.unique(values, return_counts=True)
    assert found.tolist() == [-1, 0, 1]
    assert _chi_square(counts, np.full(3, 1 / 3)) < 10
    assert max(_correlation(values.ravel(), lag) for lag in (1, 2, DEGREE)) < 10


def test_every_byte_below_255_stands_for_a_ternary_value(monkeypatch):
    """85 bytes for each value; 255 would make one of them likelier."""
    stream = np.arange(256, dtype=np.uint8)
    monkeypatch.setattr(vfl.he.arithmetic.sampling, "secret_stream", lambda length: np.resize(stream, length).tobytes())
    values = ternary(3, 85).numpy()
    assert np.unique(values, return_counts=True)[1].tolist() == [85, 85, 85]


def test_errors_are_centered_binomial_over_42_bits():
    values = errors(SAMPLE // DEGREE, DEGREE).numpy()
    assert values.dtype == np.int64
    assert values.shape == (SAMPLE // DEGREE, DEGREE)
    assert np.abs(values).max() <= MAX_ERROR
    assert values.std() == pytest.approx(math.sqrt(10.5), rel=0.01)
    assert max(_correlation(values.ravel(), lag) for lag in (1, 2, DEGREE)) < 10
    inner = 12  # beyond, fewer than five are expected
    counts = np.bincount(np.clip(values.ravel(), -inner, inner) + inner, minlength=2 * inner + 1)
    likely = np.array(
        [math.comb(2 * MAX_ERROR, MAX_ERROR + k) / 4**MAX_ERROR for k in range(-MAX_ERROR, MAX_ERROR + 1)]
    )
    tail = MAX_ERROR - inner
    expected = likely[tail : likely.size - tail].copy()
    expected[[0, -1]] += likely[:tail].sum()
    assert _chi_square(counts, expected) < 10


@pytest.mark.parametrize(
    ("word", "error"),
    [((1 << 21) - 1, 21), (((1 << 21) - 1) << 21, -21), ((1 << 42) - 1, 0), (0, 0), ((1 << 64) - (1 << 42), 0)],
)
def test_errors_reach_their_bound_and_use_no_other_bits(monkeypatch, word, error):
    stream = word.to_bytes(8, "little")
    monkeypatch.setattr(vfl.he.arithmetic.sampling, "secret_stream", lambda length: stream * (length // 8))
    assert errors(2, 3).tolist() == [[error] * 3] * 2


# --- no draw comes twice ---


def test_seeds_never_repeat():
    seeds = np.concatenate([fresh_seeds(1) for _ in range(500)] + [fresh_seeds(1500)])
    assert seeds.shape == (2000, SEED_BYTES)
    assert np.unique(seeds, axis=0).shape == seeds.shape
    assert looks_uniform(seeds, 256)
    assert fresh_seeds(0).shape == (0, SEED_BYTES)


@pytest.mark.parametrize(
    "draw",
    [lambda: secret_stream(64), lambda: ternary(1, 64).numpy().tobytes(), lambda: errors(64).numpy().tobytes()],
    ids=["stream", "ternary", "errors"],
)
def test_secret_draws_never_repeat(draw):
    drawn = [draw() for _ in range(300)]
    assert len(set(drawn)) == len(drawn)
    assert secret_stream(0) == b""
