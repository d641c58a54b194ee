"""A curious key owner reads the other party's secrets from a product that comes back under its key.

Each attack recovers its target on a build without the one protection that stops it, and finds nothing on ours. The
attacker gets its best case: products returned at the full modulus, since the rounding of modulus switching would only
blur its equations, and whole, though it needs few of their coefficients. The build as it is, primes dropped and only
the coefficients sent that hold entries, is attacked with the same code too.
"""

import numpy as np
import pytest
from support.attacks.linear_attacks import from_noise, from_second_polynomial, from_unused_coefficients
from support.attacks.returned_products import run_step
from support.attacks.uniformity import looks_uniform
from support.attacks.weakened import (
    keep_all_primes,
    mask_only_used_coefficients,
    send_all_coefficients,
    without_flooding,
    without_rerandomization,
)

TARGETS = ["V", "U", "alpha"]
BLUR = 16
"""The encryption of zero has noise of deviation 340, the attack 8192 equations with coefficients of deviation 3.2."""


@pytest.fixture(scope="module")
def as_it_is():
    return run_step()


@pytest.fixture(scope="module")
def all_coefficients():
    return run_step(send_all_coefficients)


@pytest.fixture(scope="module")
def best_case():
    return run_step(keep_all_primes, send_all_coefficients)


@pytest.fixture(params=["as_it_is", "all_coefficients", "best_case"])
def ours(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def not_rerandomized():
    return run_step(keep_all_primes, send_all_coefficients, without_rerandomization)


@pytest.fixture(scope="module")
def not_flooded():
    return run_step(keep_all_primes, send_all_coefficients, without_flooding)


@pytest.fixture(scope="module")
def partly_masked():
    return run_step(send_all_coefficients, mask_only_used_coefficients)


@pytest.mark.parametrize("target", TARGETS)
def test_second_polynomial_gives_the_factor_away_without_rerandomization(not_rerandomized, target):
    attacked = not_rerandomized[target]
    np.testing.assert_array_equal(from_second_polynomial(attacked.view), attacked.factor)


@pytest.mark.parametrize("target", TARGETS)
def test_second_polynomial_reveals_nothing_on_our_build(ours, target):
    attacked = ours[target]
    assert from_second_polynomial(attacked.view) is None
    second = attacked.view.returned[:, 1].numpy()
    primes = attacked.view.parameters.primes[: second.shape[1]]
    assert all(looks_uniform(second[:, index], prime) for index, prime in enumerate(primes))


@pytest.mark.parametrize("target", TARGETS)
def test_noise_gives_the_factor_away_without_flooding(not_flooded, target):
    """Up to the lowest bits: the noise of the encryption of zero is all that blurs one product, and averages out."""
    attacked = not_flooded[target]
    error = np.abs(from_noise(attacked.view) - attacked.factor.astype(object))
    assert error.max() <= BLUR


@pytest.mark.parametrize("target", TARGETS)
def test_noise_reveals_nothing_on_our_build(ours, target):
    attacked = ours[target]
    error = np.abs(from_noise(attacked.view) - attacked.factor.astype(object))
    assert np.median(error) > np.abs(attacked.factor).max() << 20


@pytest.mark.parametrize("target", TARGETS)
def test_unused_coefficients_give_the_factor_away_when_not_masked(partly_masked, target):
    attacked = partly_masked[target]
    np.testing.assert_array_equal(from_unused_coefficients(attacked.view), attacked.factor)


@pytest.mark.parametrize("target", TARGETS)
def test_unused_coefficients_tell_nothing_on_our_build(all_coefficients, target):
    """Even if they were sent: they are masked."""
    view = all_coefficients[target].view
    assert from_unused_coefficients(view) is None
    decrypted = view.key.decrypt(view.returned)
    assert looks_uniform(decrypted[view.unused], view.parameters.t)


@pytest.mark.parametrize("target", TARGETS)
def test_unused_coefficients_are_not_sent(as_it_is, target):
    """Their c0 appears nowhere, so that even without masks nobody could decrypt them."""
    view = as_it_is[target].view
    assert not (view.known & view.unused).any()
    assert (view.known == ~view.unused.all(axis=0)).all()
    partly_masked = run_step(mask_only_used_coefficients)[target].view
    assert from_unused_coefficients(partly_masked) is None


@pytest.mark.parametrize("target", TARGETS)
def test_one_protection_does_not_stand_in_for_another(not_rerandomized, not_flooded, target):
    """Flooding alone does not stop the linear algebra, re-randomization alone not the least squares, and vice versa."""
    assert from_second_polynomial(not_flooded[target].view) is None
    error = np.abs(from_noise(not_rerandomized[target].view) - not_rerandomized[target].factor.astype(object))
    assert np.median(error) > np.abs(not_rerandomized[target].factor).max() << 20
