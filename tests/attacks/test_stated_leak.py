"""What stated leak 1 amounts to: Z over several steps gives the active party all inner products of the activations.

This is no defect of the encryption, and no test that it fails. It is here so that SECURITY.md cannot understate it.
"""

from itertools import pairwise

import numpy as np
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape

from vfl.interact.fixed_point import center, update_kernel, z_to_real

ROWS, WIDTH, OUT_WIDTH, UPDATES = 120, 6, 4, 4


def _inner_products(z_steps: list[np.ndarray], d_z_steps: list[np.ndarray], multiplier: int) -> np.ndarray:
    """alpha alpha^T from what the active party sees, as (Z_s - Z_(s+1)) / m = alpha alpha^T dL/dZ_s.

    With D all gradients and Y all differences side by side, Y = G D and G has the rank of alpha, so
    G = Y (D^T Y)^+ Y^T.
    """
    differences = [center(before - after, PARAMETERS.tau) // multiplier for before, after in pairwise(z_steps)]
    y = np.concatenate(differences, axis=1).astype(float)
    d = np.concatenate(d_z_steps, axis=1).astype(float)
    return y @ np.linalg.pinv(d.T @ y, rcond=1e-10) @ y.T


def test_a_frozen_bottom_shows_its_geometry_to_the_active_party():
    rng = np.random.default_rng(0)
    alpha = np.rint(np.clip(rng.normal(size=(ROWS, WIDTH)) * 0.4, -1, 1) * 1024).astype(np.int64)
    labels = rng.integers(0, 2, (ROWS, 1))
    layer = encrypted_layer(make_shape({"telco": WIDTH}, OUT_WIDTH, frozenset({"telco"})))
    layer.setup()
    multiplier = update_kernel(0.5, 0.0, ROWS, PARAMETERS)[0]
    z_steps, d_z_steps = [], []
    for step in range(UPDATES + 1):
        z_steps.append(layer.forward(step, {"telco": alpha}))
        real = z_to_real(z_steps[-1], PARAMETERS)
        top = np.array([[1.0, -0.5, 0.3, 0.8]])
        gradient = (1 / (1 + np.exp(-real @ top.T)) - labels) @ top + 0.05 * real
        d_z_steps.append(np.rint(gradient * 4096).astype(np.int64))
        layer.backward(step, d_z_steps[-1], multiplier)
    expected = (alpha @ alpha.T).astype(float)
    found = _inner_products(z_steps, d_z_steps[:UPDATES], multiplier)
    assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()
