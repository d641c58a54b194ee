"""Primes are SEAL's; insecure or useless ring settings are refused with a remedy."""

import dataclasses

import pytest
from pydantic import ValidationError

from vfl.errors import ParameterError
from vfl.he.arithmetic.primes import is_prime, ntt_primes
from vfl.he.parameters import MAX_MODULUS_BITS, Parameters, RingSettings
from vfl.he.seal import context

DEFAULT = Parameters.validated(RingSettings())


@pytest.mark.parametrize(
    "settings",
    [
        RingSettings(),
        RingSettings(primes=3),
        RingSettings(degree=16384, primes=14),
        RingSettings(degree=8192, prime_bits=28, primes=5),
        RingSettings(degree=4096, prime_bits=27, primes=4),
    ],
)
def test_primes_are_those_seal_chooses(settings):
    """SEAL refuses nothing that we accept: its keys have our primes, its ciphertexts all but the last."""
    parameters = Parameters.validated(settings)
    made = context(parameters)
    chosen = [
        tuple(p.value() for p in data.parms().coeff_modulus())
        for data in (made.key_context_data(), made.first_context_data())
    ]
    assert parameters.primes == ntt_primes(settings.prime_bits, settings.degree, settings.primes)
    assert chosen == [parameters.primes, parameters.primes[:-1]]


def test_small_primes_by_trial_division():
    by_division = [n for n in range(2000) if n > 1 and all(n % d for d in range(2, int(n**0.5) + 1))]
    assert [n for n in range(-3, 2000) if is_prime(n)] == by_division
    for strong_pseudoprime in (3215031751, 3825123056546413051):
        assert not is_prime(strong_pseudoprime)


def test_primes_that_do_not_exist_are_refused():
    with pytest.raises(ParameterError, match="only 5 usable primes of 20 bits"):
        ntt_primes(20, 8192, 10)
    with pytest.raises(ParameterError, match="usable primes"):
        Parameters.validated(RingSettings(prime_bits=20, primes=9))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"primes": 8}, "not 128-bit secure"),
        ({"degree": 4096}, "not 128-bit secure"),
        ({"primes": 1}, "not 128-bit secure"),
        ({"degree": 2048}, "ring degree 2048"),
        ({"degree": 10000}, "ring degree 10000"),
        ({"prime_bits": 31}, "prime_bits = 31"),
        ({"prime_bits": 19}, "prime_bits = 19"),
        ({"tau": 57}, "tau = 57"),
        ({"tau": 60}, "tau = 60"),
        ({"tau": 14}, "tau = 14"),
        ({"activation_bits": 3}, "fewer than 4 fractional bits"),
        ({"gradient_bits": 3}, "fewer than 4 fractional bits"),
        ({"weight_bits": 3}, "fewer than 4 fractional bits"),
        ({"weight_bits": 43}, "fewer than 3 integer bits"),
        ({"activation_bits": 15}, "fewer than 3 integer bits"),
        ({"weight_bits": 29}, "learning rate"),
    ],
)
def test_each_refusal_names_its_reason_and_a_remedy(changes, reason):
    with pytest.raises(ParameterError) as caught:
        Parameters.validated(RingSettings(**changes))
    assert reason in caught.value.summary
    assert caught.value.remedy


def test_the_limits_themselves_are_accepted():
    for changes in ({"weight_bits": 42}, {"weight_bits": 30}, {"tau": 58}, {"activation_bits": 4}):
        Parameters.validated(RingSettings(**changes))


def test_accepted_moduli_are_secure_and_fit():
    """The modulus of public keys and fresh ciphertexts is the whole one: nothing lies above it."""
    assert DEFAULT.modulus(len(DEFAULT.primes)).bit_length() == 210 <= MAX_MODULUS_BITS[8192]
    assert DEFAULT.modulus(6) > DEFAULT.t << 61


def test_limits_follow_from_the_formats():
    assert DEFAULT.z_limit == 2.0**7
    assert DEFAULT.d_alpha_limit == 2.0**5


def test_parameters_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DEFAULT.settings = RingSettings(tau=56)
    with pytest.raises(ValidationError):
        DEFAULT.settings.tau = 56
    with pytest.raises(ValidationError):
        RingSettings(security=80)
