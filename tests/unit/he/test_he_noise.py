"""Measured noise stays below the analytic bounds, and hidden products decrypt right with the worst flooding noise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.key_owner import (
    integers,
    largest_noise,
    negacyclic,
    phase,
    scaled_noise,
    secret_coefficients,
    to_residues,
)
from support.layers.ciphertexts import encrypted, hidden, uniform_plaintexts

import vfl.he.ciphertexts
import vfl.he.keys
from vfl.he.algebra import times_matrix, transposed_times
from vfl.he.arithmetic.residues import prime_column, scaled_plaintext
from vfl.he.arithmetic.sampling import uniform_residues
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.layout import plan_product, product_layout, reduction_layout
from vfl.he.noise import (
    FRESH_NOISE,
    MAX_FLOODING_BITS,
    Hiding,
    product_distance,
    product_hiding,
    reduction_distance,
    reduction_hiding,
    zero_encryption_noise,
)
from vfl.he.packing import RowPacking
from vfl.he.parameters import FLOODING_BITS, MAX_ERROR, Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())
DEGREE, LEVEL, TAU = PARAMETERS.degree, len(PARAMETERS.primes), PARAMETERS.tau
LARGEST = 1 << (TAU - 1)
ERROR_VARIANCE = 2 * MAX_ERROR / 4  # centered binomial over 42 bits


@pytest.fixture(scope="module")
def key():
    return SecretKey(PARAMETERS)


@pytest.fixture(scope="module")
def secret(key):
    return secret_coefficients(PARAMETERS, key)


def _worst_fresh(secret: np.ndarray, plaintext: np.ndarray, signs: np.ndarray) -> torch.Tensor:
    """Encryptions (C, 2, L, N) of plaintexts (C, N) with every error coefficient as large as SEAL ever draws."""
    primes = np.array(PARAMETERS.primes)[:, None]
    c1 = np.random.default_rng(1).integers(0, primes, (plaintext.shape[0], LEVEL, DEGREE))
    c0 = to_residues(PARAMETERS, MAX_ERROR * signs, LEVEL) - negacyclic(c1, secret)
    c0 = c0 + scaled_plaintext(PARAMETERS, plaintext, LEVEL).numpy()
    return torch.from_numpy(np.stack([c0 % primes, c1], axis=1))


def test_the_secret_is_ternary_and_decrypts_what_the_key_encrypted(key, secret):
    assert set(np.unique(secret)) == {-1, 0, 1}
    plaintext = uniform_plaintexts(PARAMETERS, 1)
    ciphertext = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    q = PARAMETERS.modulus(LEVEL)
    decrypted = [
        (2 * PARAMETERS.t * int(v) + q) // (2 * q) % PARAMETERS.t for v in phase(PARAMETERS, secret, ciphertext)[0]
    ]
    np.testing.assert_array_equal(np.array(decrypted), plaintext[0] % PARAMETERS.t)


def test_fresh_encryptions_stay_within_the_error_bound(key, secret):
    plaintext = uniform_plaintexts(PARAMETERS, 40)
    ciphertexts = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    noise = scaled_noise(PARAMETERS, secret, ciphertexts, plaintext) / PARAMETERS.t
    assert np.abs(noise).max() <= FRESH_NOISE
    errors = np.rint(noise.astype(float))
    assert 10 <= np.abs(errors).max() <= MAX_ERROR
    assert errors.std() == pytest.approx(ERROR_VARIANCE**0.5, rel=0.02)


def test_encryptions_of_zero_stay_within_their_bound(key, secret):
    zeros = key.public.encrypt_zeros(10)
    noise = phase(PARAMETERS, secret, zeros).astype(np.float64)
    assert np.abs(noise).max() <= zero_encryption_noise(PARAMETERS)
    # e u and e1 s are sums of N products of an error and a ternary coefficient, of variance 2/3.
    assert noise.std() == pytest.approx((ERROR_VARIANCE * (2 * DEGREE * 2 / 3 + 1)) ** 0.5, rel=0.06)
    assert abs(noise.mean()) < 10 * noise.std() / noise.size**0.5


def test_the_bound_of_encryptions_of_zero_is_reached_with_the_worst_draws(monkeypatch, secret):
    """Key and encryption with every error at its largest, and a ternary polynomial that adds all of them up."""
    limits = torch.full((1, DEGREE), MAX_ERROR)
    primes = prime_column(PARAMETERS, LEVEL)
    a = uniform_residues(bytes(32), PARAMETERS.primes, DEGREE)
    b = (limits - torch.from_numpy(negacyclic(a.numpy(), secret))).remainder(primes)
    # The last coefficient of a product has no sign changes.
    aligned = torch.from_numpy(MAX_ERROR * np.where(secret[::-1] < 0, -1, 1))
    draws = torch.stack((limits[0], aligned)).unsqueeze(1)
    monkeypatch.setattr(vfl.he.keys, "ternary", lambda count, degree: torch.ones(count, degree, dtype=torch.float64))
    monkeypatch.setattr(vfl.he.keys, "errors", lambda *shape: draws)
    noise = phase(PARAMETERS, secret, PublicKey(PARAMETERS, torch.stack((b, a))).encrypt_zeros(1))
    used = np.count_nonzero(secret)
    assert noise[0, -1] == MAX_ERROR * (DEGREE + 1 + used)
    assert noise[0, -1] <= zero_encryption_noise(PARAMETERS)


def _source(rows: int, columns: int) -> RowPacking:
    return plan_product(rows, columns, 4, DEGREE).source


@settings(max_examples=8, deadline=None)
@given(
    rows=st.sampled_from([5, 200, 3000]),
    width=st.integers(1, 6),
    out_width=st.integers(1, 6),
    sign=st.sampled_from([-1, 1]),
    errors=st.sampled_from(["same", "random"]),
)
def test_products_with_the_worst_errors_and_weights_stay_within_the_bound(secret, rows, width, out_width, sign, errors):
    layout = product_layout(_source(rows, width), out_width)
    plaintext = layout.source.pack(np.full((rows, width), 1024 * sign))
    signs = np.ones(plaintext.shape, dtype=np.int64)
    if errors == "random":
        signs = np.random.default_rng(0).choice(np.array([-1, 1]), plaintext.shape)
    ct = times_matrix(PARAMETERS, layout, _worst_fresh(secret, plaintext, signs), np.full((width, out_width), -LARGEST))
    full = times_matrix(PARAMETERS, layout, _plain(plaintext), np.full((width, out_width), -LARGEST))
    expected = integers(PARAMETERS, full[:, 0].numpy()) % PARAMETERS.t
    noise = largest_noise(PARAMETERS, secret, ct, expected)
    bound = layout.terms * LARGEST * FRESH_NOISE
    assert noise <= bound
    assert bound <= 2.0 ** (product_hiding(PARAMETERS, layout).flooding_bits - FLOODING_BITS)
    if errors == "same" and width * out_width == 1:
        assert noise > 0.95 * bound


@pytest.mark.parametrize(("rows", "width", "out_width"), [(5, 3, 2), (300, 6, 4), (9000, 2, 2)])
def test_reductions_with_the_worst_errors_and_activations_stay_within_the_bound(secret, rows, width, out_width):
    layout = reduction_layout(_source(rows, out_width), width)
    plaintext = layout.source.pack(np.full((rows, out_width), 1 << 15))
    ct_y = _worst_fresh(secret, plaintext, np.ones(plaintext.shape, dtype=np.int64))
    x_BD = np.full((rows, width), 1024)
    ct = transposed_times(PARAMETERS, layout, x_BD, ct_y)
    expected = integers(PARAMETERS, transposed_times(PARAMETERS, layout, x_BD, _plain(plaintext))[:, 0].numpy())
    noise = largest_noise(PARAMETERS, secret, ct, expected)
    assert noise <= 2.0 ** (reduction_hiding(PARAMETERS, layout).flooding_bits - FLOODING_BITS)


def _plain(coefficients: np.ndarray) -> torch.Tensor:
    """The integers themselves in place of ciphertexts, to learn what a kernel makes of plaintexts."""
    out = torch.zeros((coefficients.shape[0], 2, LEVEL, DEGREE), dtype=torch.int64)
    out[:, 0] = torch.from_numpy(to_residues(PARAMETERS, coefficients, LEVEL))
    return out


@pytest.mark.parametrize("extreme", [1, -1])
@pytest.mark.parametrize(("rows", "width", "out_width"), [(5, 6, 6), (256, 32, 32), (9000, 2, 2)])
def test_hidden_products_decrypt_right_with_the_worst_noise(monkeypatch, key, secret, rows, width, out_width, extreme):
    """Worst errors in the input, worst weights and, in every coefficient, the worst flooding noise."""
    layout = plan_product(rows, width, out_width, DEGREE)
    hiding = product_hiding(PARAMETERS, layout)
    x_BD = np.full((rows, width), 1024)
    plaintext = layout.source.pack(x_BD)
    ct_x = _worst_fresh(secret, plaintext, np.full(plaintext.shape, -extreme))
    w_DK = np.full((width, out_width), -LARGEST)
    monkeypatch.setattr(vfl.he.ciphertexts, "flooding_noise", _constant_noise(extreme))
    product = times_matrix(PARAMETERS, layout, ct_x, w_DK)
    returned, mask = hidden(PARAMETERS, key.public, product, hiding)
    assert returned.shape == (layout.product.ciphertexts, 2, hiding.level, DEGREE)
    result = layout.product.unpack(key.decrypt(returned) - mask) % PARAMETERS.t
    np.testing.assert_array_equal(result, (x_BD @ w_DK) % PARAMETERS.t)


@pytest.mark.parametrize("extreme", [1, -1])
@pytest.mark.parametrize(("rows", "width", "out_width"), [(5, 6, 6), (256, 16, 16), (9000, 2, 2)])
def test_hidden_reductions_decrypt_right_with_the_worst_noise(
    monkeypatch, key, secret, rows, width, out_width, extreme
):
    layout = reduction_layout(_source(rows, out_width), width)
    y_BK, x_BD = np.full((rows, out_width), 1 << 15), np.full((rows, width), -1024)
    plaintext = layout.source.pack(y_BK)
    ct_y = _worst_fresh(secret, plaintext, np.full(plaintext.shape, -extreme))
    monkeypatch.setattr(vfl.he.ciphertexts, "flooding_noise", _constant_noise(extreme))
    product = transposed_times(PARAMETERS, layout, x_BD, ct_y)
    returned, mask = hidden(PARAMETERS, key.public, product, reduction_hiding(PARAMETERS, layout))
    result = layout.product.unpack(key.decrypt(returned) - mask) % PARAMETERS.t
    np.testing.assert_array_equal(result, (x_BD.T @ y_BK) % PARAMETERS.t)


def _constant_noise(sign: int):
    def noise(parameters, shape, bits, level):
        column = torch.tensor([(sign << bits) % q for q in parameters.primes[:level]]).unsqueeze(1)
        return column.expand(*shape[:-1], level, shape[-1]).clone()

    return noise


def test_one_prime_fewer_would_decrypt_wrong(key):
    """The level is as low as the bound allows: the tests above can fail."""
    layout = plan_product(64, 4, 4, DEGREE)
    hiding = product_hiding(PARAMETERS, layout)
    zeros = torch.zeros((layout.product.ciphertexts, 2, LEVEL, DEGREE), dtype=torch.int64)
    for level, right in ((hiding.level, True), (hiding.level - 1, False)):
        returned, mask = hidden(PARAMETERS, key.public, zeros, Hiding(hiding.flooding_bits, level))
        assert (key.decrypt(returned) == mask % PARAMETERS.t).all() == right


def test_returned_noise_is_flooded(key, secret):
    """At the full modulus the noise fills the flooding range and exceeds all other noise by 2^40."""
    layout = plan_product(64, 4, 4, DEGREE)
    hiding = product_hiding(PARAMETERS, layout)
    product = torch.zeros((layout.product.ciphertexts, 2, LEVEL, DEGREE), dtype=torch.int64)
    returned, mask = hidden(PARAMETERS, key.public, product, Hiding(hiding.flooding_bits, LEVEL))
    assert bool(((returned >= 0) & (returned < prime_column(PARAMETERS, LEVEL))).all())
    noise = largest_noise(PARAMETERS, secret, returned, mask)
    assert 0.99 * 2.0**hiding.flooding_bits < noise < 1.01 * 2.0**hiding.flooding_bits
    assert noise > 0.99 * 2.0**FLOODING_BITS * layout.terms * LARGEST * FRESH_NOISE


def test_the_distance_is_that_of_shifted_uniform_noise():
    """In every coefficient sent, the worst noise over the width of the flooding's range."""
    layout = plan_product(64, 4, 4, DEGREE)
    worst = layout.terms * LARGEST * FRESH_NOISE + zero_encryption_noise(PARAMETERS)
    range_bits = product_hiding(PARAMETERS, layout).flooding_bits + 1
    assert product_distance(PARAMETERS, layout) == pytest.approx(64 * 4 * worst / 2.0**range_bits)
    reduction = reduction_layout(layout.source, 3)
    entries = reduction.product.ciphertexts * reduction.product.positions.size
    assert 0 < reduction_distance(PARAMETERS, reduction) < entries * worst / 2.0**range_bits


def test_fewer_primes_are_kept_only_if_they_have_as_much_room():
    """Dropping a prime that decryption needs, or halving the room for flooding twice, would save too little."""
    layout = plan_product(64, 4, 4, DEGREE)
    for ring, level in (
        (RingSettings(), 3),
        (RingSettings(primes=6), 3),
        (RingSettings(primes=6, tau=48, activation_bits=6, weight_bits=30, gradient_bits=6), 3),
        (RingSettings(primes=6, tau=46, activation_bits=6, weight_bits=30, gradient_bits=6), 2),
    ):
        parameters = Parameters.validated(ring)
        hiding = product_hiding(parameters, layout)
        assert hiding.level == level
        room = parameters.modulus(len(parameters.primes)) // (2 * parameters.t)
        assert hiding.flooding_bits >= min(MAX_FLOODING_BITS, room.bit_length() - 1) - 1
