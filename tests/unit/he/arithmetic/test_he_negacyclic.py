"""Products through transforms are the integers that exact multiplication gives, wherever the bound says so."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.key_owner import exact_product

from vfl.errors import ParameterError
from vfl.he.arithmetic.negacyclic import inverse_transform, transform
from vfl.he.bounds import Workload, check_bounds
from vfl.he.parameters import MAX_MODULUS_BITS, Parameters, RingSettings
from vfl.he.rounding import product_error, zero_product_error

DEGREES = sorted(MAX_MODULUS_BITS)
HALF = 1 << 29
"""Centered residues modulo primes of 30 bits are at most this."""


def _product(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    spectra = [transform(torch.from_numpy(values.astype(np.float64))) for values in (first, second)]
    return inverse_transform(spectra[0] * spectra[1]).numpy()


def _polynomial(rng: np.random.Generator, degree: int, limit: int, style: str) -> np.ndarray:
    half_each = np.where(np.arange(degree) < degree // 2, limit, -limit)
    return {
        "uniform": rng.integers(-limit, limit, degree, endpoint=True),
        "highest": np.full(degree, limit),
        "lowest": np.full(degree, -limit),
        "alternating": limit * (1 - 2 * (np.arange(degree) % 2)),
        "halves": half_each,
        "signs": rng.choice(np.array([-limit, limit]), degree),
        "last": np.where(np.arange(degree) == degree - 1, limit, 0),
    }[style]


STYLES = st.sampled_from(["uniform", "highest", "lowest", "alternating", "halves", "signs", "last"])


def test_the_reference_is_polynomial_multiplication():
    """Against schoolbook multiplication, with Python integers."""
    rng = np.random.default_rng(0)
    first, second = rng.integers(-(2**29), 2**29, 16), rng.integers(-9, 10, 16)
    expected = [0] * 16
    for i, x in enumerate(first.tolist()):
        for j, y in enumerate(second.tolist()):
            expected[(i + j) % 16] += x * y if i + j < 16 else -x * y
    assert exact_product(first, second).tolist() == expected


@settings(max_examples=60, deadline=None)
@given(degree=st.sampled_from(DEGREES), residues=STYLES, small=STYLES, seed=st.integers(0, 2**32))
def test_products_of_residues_and_ternary_polynomials_are_exact(degree, residues, small, seed):
    rng = np.random.default_rng(seed)
    first, second = _polynomial(rng, degree, HALF, residues), _polynomial(rng, degree, 1, small)
    np.testing.assert_array_equal(_product(first, second), exact_product(first, second))


@pytest.mark.parametrize("degree", DEGREES)
def test_the_largest_products_there_are_are_exact(degree):
    for residue in (HALF, -HALF):
        first, ones = np.full(degree, residue), np.ones(degree, dtype=np.int64)
        got = _product(first, ones)
        assert got[-1] == residue * degree
        np.testing.assert_array_equal(got, exact_product(first, ones))


def test_transforms_leave_their_input_alone_and_take_many_polynomials():
    values = torch.from_numpy(np.random.default_rng(1).integers(-HALF, HALF, (2, 3, 4096)).astype(np.float64))
    before = values.clone()
    spectra = transform(values)
    kept = spectra.clone()
    assert torch.equal(inverse_transform(spectra), before)
    assert torch.equal(values, before)
    assert torch.equal(spectra, kept)


def test_transforms_invert_each_other_up_to_large_integers():
    values = torch.full((1, 8192), 2.0**45)
    assert torch.equal(inverse_transform(transform(values.double())), values.double())


@pytest.mark.parametrize("degree", DEGREES)
def test_the_bound_covers_the_rounding_that_occurs(degree):
    """Rounding before ``round_``, by scaling the factors by a power of two: what stays of it must fit the bound."""
    scale = 2.0**-24
    rng = np.random.default_rng(degree)
    for style in ("highest", "uniform", "signs"):
        first, second = _polynomial(rng, degree, HALF, style), _polynomial(rng, degree, 1, "signs")
        spectrum = transform(torch.from_numpy(first * scale)) * transform(torch.from_numpy(second * 1.0))
        # Larger by 2^40, rounding to integers no longer hides the error, and powers of two add none.
        got = inverse_transform(spectrum * 2.0**40).numpy() * 2.0**-40 / scale
        error = np.abs(got - exact_product(first, second)).max()
        bound = product_error(degree, float(np.linalg.norm(first)), float(np.linalg.norm(second)))
        assert 0 < error < bound


def test_the_bound_is_proportional_to_both_norms_and_grows_with_terms():
    assert product_error(8192, 2.0, 3.0) == pytest.approx(6 * product_error(8192, 1.0, 1.0))
    assert product_error(8192, 1.0, 1.0, terms=4) > 4 * product_error(8192, 1.0, 1.0)
    assert product_error(16384, 1.0, 1.0) > product_error(8192, 1.0, 1.0)


def test_the_bound_refuses_what_is_not_exact():
    rng = np.random.default_rng(0)
    for limit in (1 << 20, 1 << 29, 1 << 46):
        first, second = _polynomial(rng, 8192, limit, "signs"), _polynomial(rng, 8192, 1, "signs")
        exact = bool((_product(first, second) == exact_product(first, second)).all())
        bound = product_error(8192, float(np.linalg.norm(first)), float(np.linalg.norm(second)))
        assert exact == (bound < 0.5)


@pytest.mark.parametrize("degree", DEGREES)
def test_all_accepted_parameters_are_exact_and_larger_primes_are_refused(degree):
    assert zero_product_error(Parameters(RingSettings(degree=degree, prime_bits=30))) < 0.25
    beyond = Parameters(RingSettings(degree=degree, prime_bits=33))
    with pytest.raises(ParameterError, match="encryption is not provably exact with these primes"):
        check_bounds(beyond, Workload({64: 1}, {}), (8,), 8)
