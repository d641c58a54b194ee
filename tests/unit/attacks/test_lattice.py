"""Exact outputs give the activations away bit for bit; outputs with noise give nothing."""

import numpy as np
import pytest

from vfl.attacks.lattice import contained, exact_columns, lattice_attack, recover_activations, same_lattice
from vfl.errors import ConfigError

pytest.importorskip("flint")
ALPHA_BITS, WEIGHT_BITS = 10, 37
SCALE = 2 ** (ALPHA_BITS + WEIGHT_BITS - 2)
"""Of Z, whose fixed-point representation has both scales."""


def exact(rng, rows, width, outputs):
    alpha = rng.integers(-(2**ALPHA_BITS), 2**ALPHA_BITS + 1, (rows, width))
    weights = rng.integers(-(2**WEIGHT_BITS), 2**WEIGHT_BITS, (width, outputs))
    return alpha, alpha.astype(object) @ weights.astype(object)


def noise(rng, shape, relative):
    values = [int(value) for value in np.rint(rng.normal(0, relative * SCALE, shape)).ravel()]
    return np.array(values, dtype=object).reshape(shape)


@pytest.mark.parametrize(("rows", "width", "outputs"), [(96, 16, 16), (96, 16, 20), (48, 12, 4), (72, 24, 8)])
def test_exact_outputs_are_as_good_as_the_activations(rows, width, outputs):
    alpha, product = exact(np.random.default_rng(width), rows, width, outputs)
    found = lattice_attack(product, alpha)
    assert found.exact_columns == width
    assert found.same_lattice


@pytest.mark.parametrize(("rows", "width", "outputs"), [(96, 16, 16), (96, 16, 20), (48, 12, 4), (72, 24, 8)])
@pytest.mark.parametrize("relative", [2**-14, 2**-8])
def test_noise_far_below_the_scale_of_the_outputs_stops_it(rows, width, outputs, relative):
    rng = np.random.default_rng(width)
    alpha, product = exact(rng, rows, width, outputs)
    found = lattice_attack(product + noise(rng, product.shape, relative), alpha)
    assert found.exact_columns == 0
    assert not found.same_lattice


def test_columns_that_resemble_one_another_are_found_as_a_lattice():
    rng = np.random.default_rng(3)
    alpha, _ = exact(rng, 96, 12, 12)
    alpha[:, 1] = alpha[:, 0] + rng.integers(-3, 4, 96)
    weights = rng.integers(-(2**WEIGHT_BITS), 2**WEIGHT_BITS, (12, 12))
    found = lattice_attack(alpha.astype(object) @ weights.astype(object), alpha)
    assert found.same_lattice  # their short difference may be added to every other column


def test_sign_and_order_of_columns_do_not_matter_and_zeros_do_not_count():
    alpha = np.array([[1, 2, 0], [3, 4, 0]])
    assert exact_columns([[-2, 1, 0], [-4, 3, 0]], alpha) == 2
    assert same_lattice([[3, 1], [7, 3]], [[1, 2], [3, 4]])
    assert not same_lattice([[2, 2], [6, 4]], [[1, 2], [3, 4]])


def test_a_column_of_even_numbers_comes_out_halved():
    rng = np.random.default_rng(4)
    alpha, _ = exact(rng, 48, 6, 8)
    alpha[:, 2] *= 2
    weights = rng.integers(-(2**WEIGHT_BITS), 2**WEIGHT_BITS, (6, 8))
    found = lattice_attack(alpha.astype(object) @ weights.astype(object), alpha)
    assert found.contained
    assert not found.same_lattice
    assert not contained(alpha * 2, alpha)
    assert not contained(np.ones((48, 2), dtype=np.int64), alpha)


def test_too_few_rows_and_fractions_are_refused():
    with pytest.raises(ConfigError, match="at least 16 rows"):
        recover_activations(np.ones((15, 8), dtype=np.int64), 8)
    with pytest.raises(ConfigError, match="integers"):
        recover_activations(np.full((20, 8), 0.5), 8)
