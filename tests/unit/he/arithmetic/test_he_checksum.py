"""A product with one wrong coefficient is noticed, whichever it is, and right products are not."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.attacks.key_owner import exact_product

import vfl.he.algebra
import vfl.he.keys
from vfl.errors import InternalError
from vfl.he.algebra import transposed_times
from vfl.he.arithmetic.checksum import SMALL, Point
from vfl.he.arithmetic.primes import ntt_primes
from vfl.he.keys import SecretKey
from vfl.he.layout import reduction_layout
from vfl.he.packing import RowPacking
from vfl.he.parameters import Parameters, RingSettings

PARAMETERS = Parameters.validated(RingSettings())
PRIMES, DEGREE, LEVEL = PARAMETERS.primes, PARAMETERS.degree, len(PARAMETERS.primes)


def _residues(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.array(PRIMES)[:, None], shape)


def _floats(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float64))


@pytest.mark.parametrize("degree", [4096, 8192, 16384])
def test_points_are_roots_and_evaluate_exactly(degree):
    primes = ntt_primes(30, degree, 3)
    point = Point(primes, degree)
    one = np.zeros((3, degree), dtype=np.int64)
    one[:, 1] = 1
    roots = [int(root) for root in point.residue_values(point.residue_sums(_floats(one)))]
    assert all(pow(root, degree, prime) == prime - 1 for root, prime in zip(roots, primes, strict=True))
    other = Point(primes, degree)
    assert roots != other.residue_values(other.residue_sums(_floats(one))).tolist()
    for values, single in (
        (np.array([[prime - 1] * degree for prime in primes]), np.full(degree, SMALL)),
        (np.random.default_rng(0).integers(-(2**30), 2**30, (3, degree)), np.full(degree, -SMALL)),
    ):
        for index, (root, prime) in enumerate(zip(roots, primes, strict=True)):
            powers = [pow(root, power, prime) for power in range(degree)]
            exact = sum(int(value) * power for value, power in zip(values[index], powers, strict=True)) % prime
            assert point.residue_values(point.residue_sums(_floats(values)))[index] == exact
            exact = int(single[0]) * sum(powers) % prime
            assert point.small_values(point.small_sums(_floats(single)))[index] == exact


@settings(deadline=None, max_examples=20)
@given(
    seed=st.integers(0, 2**32), at=st.integers(0, DEGREE - 1), index=st.integers(0, LEVEL - 1), by=st.integers(0, 29)
)
def test_any_flipped_bit_of_a_product_is_noticed(seed, at, index, by):
    prime = PRIMES[index : index + 1]
    point, small = Point(prime, DEGREE), np.random.default_rng(seed).integers(-1, 2, DEGREE)
    factor = np.random.default_rng(seed).integers(0, prime[0], (1, DEGREE))
    product = (exact_product(factor[0], small) % prime[0]).astype(np.int64)[None]
    values = [point.residue_values(point.residue_sums(_floats(one))) for one in (factor, product)]
    expected = values[0] * point.small_values(point.small_sums(_floats(small)))
    point.require_equal(values[1], expected, "it")
    product[0, at] ^= 1 << by
    with pytest.raises(InternalError, match="it is wrong"):
        point.require_equal(point.residue_values(point.residue_sums(_floats(product))), expected, "it")


def _flipping(monkeypatch, module, flip_at: int) -> None:
    """The inverse transform of a module returns one coefficient, of all it computes at once, that is off by one."""
    inverse = module.inverse_transform

    def flipped(spectrum: torch.Tensor) -> torch.Tensor:
        values = inverse(spectrum)
        values.view(-1)[flip_at % values.numel()] += 1
        return values

    monkeypatch.setattr(module, "inverse_transform", flipped)


@pytest.mark.parametrize("flip_at", [0, 1, 77_777, -1])
def test_encryption_and_decryption_notice_one_wrong_coefficient(monkeypatch, flip_at):
    key = SecretKey(PARAMETERS)
    ciphertexts = key.encrypt_zeros(1).expanded(PARAMETERS)
    key.public.encrypt_zeros(1)
    assert not key.decrypt(ciphertexts).any()
    _flipping(monkeypatch, vfl.he.keys, flip_at)
    with pytest.raises(InternalError, match="an encryption of zero is wrong"):
        key.public.encrypt_zeros(1)
    for action in (lambda: key.encrypt_zeros(1), lambda: key.decrypt(ciphertexts[:, :, :3])):
        with pytest.raises(InternalError, match="a product with a secret key is wrong"):
            action()


@pytest.mark.parametrize("flip_at", [0, 12_345, -1])
@pytest.mark.parametrize(("rows", "pieces"), [(64, 1), (700, 4)])
def test_a_weight_gradient_notices_one_wrong_coefficient(monkeypatch, flip_at, rows, pieces):
    layout = reduction_layout(RowPacking(rows, 5, DEGREE, 64, 2, 64), 9)
    if pieces > 1:
        monkeypatch.setattr(vfl.he.algebra, "PIECE_BYTES", 8 * 3 * layout.product.feature_groups * DEGREE)
    x_BD = np.random.default_rng(0).integers(-1024, 1025, (rows, 9))
    ct_y = torch.from_numpy(_residues(1, layout.source.ciphertexts, 2, LEVEL, DEGREE))
    transposed_times(PARAMETERS, layout, x_BD, ct_y)
    _flipping(monkeypatch, vfl.he.algebra, flip_at)
    with pytest.raises(InternalError, match="a product with encrypted gradients is wrong"):
        transposed_times(PARAMETERS, layout, x_BD, ct_y)


def test_a_wrong_rounding_in_the_last_bit_of_one_of_many_is_noticed(monkeypatch):
    """Only the last of all products of a call is wrong, in one coefficient."""
    layout, calls = reduction_layout(RowPacking(64, 5, DEGREE, 64, 2, 64), 9), []
    inverse = vfl.he.algebra.inverse_transform

    def last_flipped(spectrum: torch.Tensor) -> torch.Tensor:
        values = inverse(spectrum)
        calls.append(values)
        if len(calls) == layout.source.groups * 2 * LEVEL:
            values.view(-1)[-5] -= 1
        return values

    monkeypatch.setattr(vfl.he.algebra, "inverse_transform", last_flipped)
    ct_y = torch.from_numpy(_residues(1, layout.source.ciphertexts, 2, LEVEL, DEGREE))
    with pytest.raises(InternalError, match="encrypted gradients"):
        transposed_times(PARAMETERS, layout, np.ones((64, 9), dtype=np.int64), ct_y)
