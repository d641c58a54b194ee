"""Residue arithmetic agrees with Python integers, at the extremes of every operand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.key_owner import integers, to_residues
from support.attacks.uniformity import looks_uniform

from vfl.he.arithmetic.primes import ntt_primes
from vfl.he.arithmetic.residues import (
    centered,
    drop_primes,
    flooding_noise,
    nearest_zero,
    nonnegative,
    prime_column,
    reduce_in_place,
    scaled_plaintext,
)
from vfl.he.layout import MAX_TERMS
from vfl.he.parameters import MAX_MODULUS_BITS, Parameters, RingSettings
from vfl.he.rounding import HALF_LIMB, REDUCIBLE

PARAMETERS = Parameters.validated(RingSettings())
SMALL_RING = Parameters.validated(RingSettings(tau=40, activation_bits=6, weight_bits=24, gradient_bits=6))
T = PARAMETERS.t
"""Up to here the multiple of a prime that is taken off is exact, too."""
EXTREMES = [0, 1, -1, T // 2 - 1, T // 2, T // 2 + 1, T - 1, T, -T // 2, -T, 2**63 - 1, -(2**63), 0x55 << 50]


def _expected_scaled(parameters: Parameters, value: int, level: int) -> int:
    q, t = parameters.modulus(level), parameters.t
    return (2 * q * (value % t) + t) // (2 * t) % q


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.integers(-(2**63), 2**63 - 1) | st.sampled_from(EXTREMES), min_size=1, max_size=8),
    level=st.integers(2, 7),
    parameters=st.sampled_from([PARAMETERS, SMALL_RING]),
)
def test_scaled_plaintext_is_the_rounded_quotient(values, level, parameters):
    residues = scaled_plaintext(parameters, np.array(values, dtype=np.int64), level).numpy()
    expected = [[_expected_scaled(parameters, v, level) % q for v in values] for q in parameters.primes[:level]]
    np.testing.assert_array_equal(residues, np.array(expected))


def test_centered_is_the_nearest_representative():
    primes = prime_column(PARAMETERS, 1)
    q = PARAMETERS.primes[0]
    values = torch.tensor([[0, 1, q // 2, q // 2 + 1, q - 1]])
    assert centered(values, primes).tolist() == [[0, 1, q // 2, q // 2 + 1 - q, -1]]


def _near_multiples(limit: int, distances: range) -> list[int]:
    """Integers next to multiples of the primes and halfway between, where quotients round either way."""
    values = set()
    for prime in PARAMETERS.primes:
        for multiple in (0, 1, 2, 1 << 22, limit // prime - 1, limit // prime):
            for base in (multiple * prime, multiple * prime + prime // 2):
                values |= {sign * (base + d) for sign in (-1, 1) for d in distances}
    return sorted(v for v in values if -limit <= v <= limit)


def _check_reduced(values: list[int]) -> None:
    rows = torch.tensor(values, dtype=torch.float64).expand(len(PARAMETERS.primes), -1)
    assert [int(v) for v in rows[0].tolist()] == values
    expected = [[value % prime for value in values] for prime in PARAMETERS.primes]
    primes = prime_column(PARAMETERS, len(PARAMETERS.primes))
    center = nearest_zero(rows, primes)
    assert bool((center.abs() <= primes // 2 + 4).all())
    assert nonnegative(center, primes).tolist() == expected


def test_reduced_is_exact_next_to_multiples_and_at_the_ends_of_its_range():
    _check_reduced(_near_multiples(REDUCIBLE, range(-6, 7)))
    ends = [REDUCIBLE, REDUCIBLE - 1, 2**52 + 1, 2**52, 2**52 - 1]
    _check_reduced(ends + [-value for value in ends])


def test_the_matrix_kernel_stays_within_what_can_be_reduced():
    """With as many terms as a layout may have, the largest primes and the largest halves of weights."""
    for degree in MAX_MODULUS_BITS:
        prime = max(ntt_primes(30, degree, 12))
        assert MAX_TERMS * (prime // 2) * 2 ** (HALF_LIMB - 1) + prime * 2**HALF_LIMB <= REDUCIBLE


def _in_place(values: list[int], prime: int) -> list[int]:
    tensor = torch.tensor(values, dtype=torch.float64)
    reduce_in_place(tensor, prime, torch.empty_like(tensor))
    return [int(value) for value in tensor.tolist()]


def _check_in_place(values: list[int]) -> None:
    for prime in PARAMETERS.primes:
        got = _in_place(values, prime)
        assert [value % prime for value in got] == [value % prime for value in values]
        assert max(map(abs, got)) < prime


def test_reduction_in_place_keeps_the_residue_and_is_small():
    _check_in_place(_near_multiples(REDUCIBLE, range(-6, 7)))
    ends = [REDUCIBLE, REDUCIBLE - 1, 2**52 + 1, 2**52, 2**52 - 1]
    _check_in_place(ends + [-value for value in ends])


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-REDUCIBLE, REDUCIBLE), min_size=1, max_size=50))
def test_any_reduction_in_place_keeps_the_residue_and_is_small(values):
    _check_in_place(values)


@settings(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(-REDUCIBLE, REDUCIBLE), min_size=1, max_size=50))
def test_reduced_is_the_remainder(values):
    _check_reduced(values)


@settings(max_examples=40, deadline=None)
@given(level=st.integers(1, 7), kept=st.integers(1, 7), seed=st.integers(0, 2**32))
def test_drop_primes_divides_and_rounds_one_prime_after_the_other(level, kept, seed):
    rng = np.random.default_rng(seed)
    primes = np.array(PARAMETERS.primes[:level])[:, None]
    residues = np.concatenate(
        [rng.integers(0, primes, (level, 8)), primes - 1, primes // 2, primes // 2 + 1, 0 * primes], axis=1
    )
    kept = min(kept, level)
    expected = integers(PARAMETERS, residues)
    for last in reversed(PARAMETERS.primes[kept:level]):
        expected = (2 * expected + last) // (2 * last)
    got = drop_primes(PARAMETERS, torch.from_numpy(residues), kept).numpy()
    np.testing.assert_array_equal(got, to_residues(PARAMETERS, expected, kept))


@pytest.mark.parametrize("bits", [0, 1, 29, 30, 31, 66, 110, 149])
def test_flooding_noise_stays_in_its_range_and_reaches_its_ends(bits):
    noise = integers(PARAMETERS, flooding_noise(PARAMETERS, (4, PARAMETERS.degree), bits, 7).numpy())
    assert -(1 << bits) <= noise.min() < -0.99 * (1 << bits) or (bits <= 1 and noise.min() == -(1 << bits))
    assert 0.99 * (1 << bits) - 1 <= noise.max() < 1 << bits


@pytest.mark.parametrize("bits", [29, 66, 149])
def test_flooding_noise_is_uniform_and_fresh(bits):
    noise = integers(PARAMETERS, flooding_noise(PARAMETERS, (4, PARAMETERS.degree), bits, 7).numpy())
    shifted = noise + (1 << bits)
    for lowest in range(0, bits + 1 - 20, 15):  # every window of the range's bits
        window = ((shifted >> lowest) % (1 << 20)).astype(np.int64)
        assert looks_uniform(window, 1 << 20)
    assert len(set(noise.ravel())) > 0.99 * noise.size or bits < 40


def test_flooding_noise_is_the_same_integer_modulo_every_prime():
    residues = flooding_noise(PARAMETERS, (PARAMETERS.degree,), 20, len(PARAMETERS.primes)).numpy()
    primes = np.array(PARAMETERS.primes)[:, None]
    signed = np.where(residues > primes // 2, residues - primes, residues)
    assert (signed == signed[0]).all()
    assert np.abs(signed).max() <= 1 << 20
