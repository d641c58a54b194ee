"""Ring exactness: encrypted and plaintext protocol agree bit for bit, forward, backward and after updates."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape, plaintext_layer

ACTIVATION_LIMIT = 1 << PARAMETERS.settings.activation_bits
GRADIENT_LIMIT = 8 << PARAMETERS.settings.gradient_bits


def _values(rng: np.random.Generator, shape: tuple[int, int], limit: int, style: str) -> np.ndarray:
    if style == "extreme":
        return rng.choice(np.array([-limit, 0, limit]), shape)
    return rng.integers(-limit, limit, shape, endpoint=True)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.integers(1, 300),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    out_width=st.integers(1, 9),
    style=st.sampled_from(["uniform", "extreme"]),
    frozen_first=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_two_steps_agree_bit_for_bit(rows, widths, out_width, style, frozen_first, seed):
    rng = np.random.default_rng(seed)
    named = {f"p{i}": width for i, width in enumerate(widths)}
    shape = make_shape(named, out_width, frozenset({"p0"}) if frozen_first else frozenset())
    encrypted, plaintext = encrypted_layer(shape, seed, sigma=0.3), plaintext_layer(shape, seed, sigma=0.3)
    encrypted.setup()
    plaintext.setup()
    for step in range(2):
        alpha = {n: _values(rng, (rows, d), ACTIVATION_LIMIT, style) for n, d in named.items()}
        d_z = _values(rng, (rows, out_width), GRADIENT_LIMIT, style)
        np.testing.assert_array_equal(encrypted.forward(step, alpha), plaintext.forward(step, alpha))
        got, expected = encrypted.backward(step, d_z, 37), plaintext.backward(step, d_z, 37)
        for name in named:
            assert (got[name] is None) == (expected[name] is None) == (name not in shape.gradient_receivers)
            if got[name] is not None:
                np.testing.assert_array_equal(got[name], expected[name])
        for name, weight in plaintext.shares().items():
            np.testing.assert_array_equal(encrypted.shares()[name], weight)


@pytest.mark.parametrize(("rows", "width", "out_width"), [(256, 16, 16), (512, 32, 32), (8192, 4, 3), (9000, 3, 2)])
def test_shapes_of_real_jobs_agree(rows, width, out_width):
    rng = np.random.default_rng(rows)
    shape = make_shape({"telco": width}, out_width)
    encrypted, plaintext = encrypted_layer(shape, sigma=0.3), plaintext_layer(shape, sigma=0.3)
    encrypted.setup()
    plaintext.setup()
    alpha = {"telco": _values(rng, (rows, width), ACTIVATION_LIMIT, "uniform")}
    d_z = _values(rng, (rows, out_width), GRADIENT_LIMIT, "uniform")
    np.testing.assert_array_equal(encrypted.forward(0, alpha), plaintext.forward(0, alpha))
    got, expected = encrypted.backward(0, d_z, 5), plaintext.backward(0, d_z, 5)
    np.testing.assert_array_equal(got["telco"], expected["telco"])
    np.testing.assert_array_equal(encrypted.shares()["telco"], plaintext.shares()["telco"])
