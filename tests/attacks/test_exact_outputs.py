"""Outputs without noise give away the operands by lattice reduction; with the least noise they do not.

Every case is a federation whose active party, or passive party, attacks what it is meant to receive.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape, plaintext_layer

from vfl.interact.fixed_point import center
from vfl.privacy.output_noise import MIN_NOISE

pytest.importorskip("flint", reason="python-flint is not installed")

from vfl.attacks.lattice import lattice_attack

ROWS = 96


def _activations(rng, width, rows=ROWS):
    """Outputs of a bottom like any: dense, bounded, of 11 bits."""
    return np.rint(np.tanh(rng.normal(size=(rows, width))) * 1024).astype(np.int64)


def _forward(widths, out_width, sigma, seed=1, make=plaintext_layer):
    rng = np.random.default_rng(seed)
    layer = make(make_shape(widths, out_width), seed=seed, sigma=sigma)
    layer.setup()
    alpha = {name: _activations(rng, width) for name, width in widths.items()}
    return layer, alpha, layer.forward(1, alpha)


@pytest.mark.parametrize(
    ("widths", "out_width"),
    [({"telco": 16}, 16), ({"telco": 12}, 6), ({"telco": 7, "shop": 6}, 16)],
    ids=["as many outputs as activations", "fewer outputs", "two passive parties"],
)
def test_z_gives_the_activations_away_without_noise_and_not_with_the_least(widths, out_width):
    _, alpha, exact = _forward(widths, out_width, 0.0)
    everything = np.concatenate(list(alpha.values()), axis=1)
    found = lattice_attack(exact, everything)
    assert found.same_lattice
    assert found.exact_columns >= everything.shape[1] // 2
    _, alpha, noisy = _forward(widths, out_width, MIN_NOISE)
    found = lattice_attack(noisy, np.concatenate(list(alpha.values()), axis=1))
    assert found.exact_columns == 0
    assert not found.same_lattice


def test_the_encrypted_layer_gives_away_as_much_and_as_little():
    _, alpha, exact = _forward({"telco": 8}, 8, 0.0, make=encrypted_layer)
    assert lattice_attack(exact, alpha["telco"]).same_lattice
    _, alpha, noisy = _forward({"telco": 8}, 8, MIN_NOISE, make=encrypted_layer)
    assert lattice_attack(noisy, alpha["telco"]).exact_columns == 0


def test_d_alpha_gives_the_gradient_away_without_noise_and_not_with_the_least():
    def received(sigma):
        layer, _, _ = _forward({"telco": 24}, 8, sigma, seed=3)
        d_z = np.random.default_rng(4).integers(-4096, 4097, (ROWS, 8))
        return d_z, layer.backward(1, d_z, 1)["telco"]

    d_z, exact = received(0.0)
    assert lattice_attack(exact, d_z).same_lattice
    d_z, noisy = received(MIN_NOISE)
    assert lattice_attack(noisy, d_z).exact_columns == 0


def test_noise_at_the_floor_is_there_in_every_entry():
    layer, alpha, noisy = _forward({"telco": 16}, 16, MIN_NOISE)
    exact = center(alpha["telco"] @ layer.shares()["telco"], PARAMETERS.tau)
    bits = PARAMETERS.settings.activation_bits + PARAMETERS.settings.weight_bits
    noise = center(noisy - exact, PARAMETERS.tau) * 2.0**-bits
    assert noise.std() == pytest.approx(MIN_NOISE, rel=0.1)
    assert (noise != 0).all()
    assert np.unique(center(noisy - exact, PARAMETERS.tau) & 0xFF).size > 200  # its low-order bits are random, too
