"""Fixed point: rounding is right on average, nothing wraps silently, the update's multiplier is the learning rate."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.errors import ModelError, RangeError
from vfl.he.arithmetic.updates import MAX_KERNEL_ERROR, update_kernel
from vfl.he.parameters import Parameters, RingSettings
from vfl.interact.fixed_point import (
    GUARD,
    MAX_GRADIENT,
    center,
    check_step,
    d_alpha_to_real,
    quantize,
    quantize_activations,
    quantize_gradient,
    quantize_weights,
    z_to_real,
)

PARAMETERS = Parameters.validated(RingSettings())
S = PARAMETERS.settings


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _multiplier(rate: float, rows: int) -> int:
    """The one integer of a step without momentum."""
    (multiplier,) = update_kernel(rate, 0.0, rows, PARAMETERS)
    return multiplier


class LargestDraws:
    """A generator that always draws the largest number below one."""

    def random(self, shape):
        return np.full(shape, 1 - 2.0**-53)


@settings(deadline=None)
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1), tau=st.sampled_from([16, 40, 58]))
def test_centre_gives_the_representative_nearest_to_zero(values, tau):
    centered = center(np.array(values, dtype=np.int64), tau)
    half = 1 << (tau - 1)
    assert centered.tolist() == [(v + half) % (1 << tau) - half for v in values]


@pytest.mark.parametrize("value", [0.3, -0.3, 0.0001, -0.9999, 0.5])
def test_stochastic_rounding_is_unbiased(value):
    rounded = quantize(np.full(200_000, value), S.activation_bits, _rng())
    exact = value * 2**S.activation_bits
    assert set(np.unique(rounded)) <= {np.floor(exact), np.ceil(exact)}
    fraction = exact - np.floor(exact)
    tolerance = 5 * (fraction * (1 - fraction) / rounded.size) ** 0.5
    assert abs(rounded.mean() - exact) <= tolerance


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=50),
    make_generator=st.sampled_from([_rng, LargestDraws]),
)
def test_activations_stay_within_a_unit_and_their_range(values, make_generator):
    alpha = np.array([values], dtype=np.float32)
    rounded = quantize_activations(alpha, PARAMETERS, make_generator(), "the bottom")
    assert np.abs(rounded).max() <= 1 << S.activation_bits
    assert (np.abs(rounded - alpha.astype(np.float64) * 2**S.activation_bits) < 1).all()


def test_multiples_of_the_unit_are_kept_whatever_is_drawn():
    whole = np.arange(-1024, 1025) / 1024
    for generator in (_rng(), LargestDraws()):
        np.testing.assert_array_equal(quantize(whole, 10, generator), np.arange(-1024, 1025))


@pytest.mark.parametrize("bad", [1.0001, -1.0001, np.nan, np.inf, -np.inf])
def test_activations_out_of_range_name_the_layer_and_not_the_value(bad):
    alpha = np.zeros((3, 2))
    alpha[1, 1] = bad
    with pytest.raises(ModelError) as caught:
        quantize_activations(alpha, PARAMETERS, _rng(), "the bottom model of bank")
    assert "the bottom model of bank" in caught.value.summary
    assert str(bad) not in str(caught.value)
    assert caught.value.remedy


@pytest.mark.parametrize("bad", [MAX_GRADIENT + 0.01, -MAX_GRADIENT - 0.01, np.nan, np.inf])
def test_gradients_out_of_range_are_refused(bad):
    with pytest.raises(RangeError) as caught:
        quantize_gradient(np.array([[0.0, bad]]), PARAMETERS, _rng())
    assert str(bad) not in str(caught.value)
    limits = quantize_gradient(np.array([[MAX_GRADIENT, -MAX_GRADIENT]]), PARAMETERS, LargestDraws())
    assert limits.tolist() == [[8 << S.gradient_bits, -8 << S.gradient_bits]]


def test_weights_are_rounded_to_the_nearest_unit():
    weights = np.array([[0.5, -0.25, 2.0**-41, 3 * 2.0**-41]])
    assert quantize_weights(weights, PARAMETERS).tolist() == [[1 << 39, -(1 << 38), 0, 2]]


@pytest.mark.parametrize(
    ("to_real", "bits", "limit"),
    [
        (lambda v: z_to_real(v, PARAMETERS), S.activation_bits + S.weight_bits, PARAMETERS.z_limit),
        (lambda v: d_alpha_to_real(v, PARAMETERS, "x"), S.gradient_bits + S.weight_bits, PARAMETERS.d_alpha_limit),
    ],
)
def test_results_are_scaled_back_and_refused_near_a_wrap(to_real, bits, limit):
    edge = int(GUARD * limit) << bits
    for value in (edge, -edge, 0, 5):
        assert to_real(np.array([[value]]))[0, 0] == value / 2**bits
        assert to_real(np.array([[value + PARAMETERS.t]]))[0, 0] == value / 2**bits
    for value in (edge + (1 << bits), -edge - (1 << bits), PARAMETERS.t // 2):
        with pytest.raises(RangeError) as caught:
            to_real(np.array([[0, value]]))
        assert str(value) not in str(caught.value)


@settings(deadline=None)
@given(rate=st.floats(1e-4, 4.0), rows=st.integers(1, 4096))
def test_the_multiplier_is_the_rate_or_refused(rate, rows):
    exact = rate / rows * 2 ** (S.weight_bits - S.activation_bits - S.gradient_bits)
    if abs(round(exact) - exact) > MAX_KERNEL_ERROR * exact:
        with pytest.raises(RangeError, match="learning_rate"):
            _multiplier(rate, rows)
    else:
        assert _multiplier(rate, rows) == round(exact)


def test_rates_that_vanish_or_overflow_are_refused():
    for rate in (1e-9, 1e9):
        with pytest.raises(RangeError):
            _multiplier(rate, 256)
    assert _multiplier(0.0, 256) == 0
    unit = 256 * 2.0 ** -(S.weight_bits - S.activation_bits - S.gradient_bits)
    assert _multiplier(1.04 * unit, 256) == 1
    for multiple in (0.3, 1.3, 0.94, 1.08):  # rounding would change the rate by more than 5 %
        with pytest.raises(RangeError):
            _multiplier(multiple * unit, 256)


def test_an_update_moves_weights_by_the_mean_gradient():
    """m dW at f_w bits equals rate times the mean gradient, to within rounding of m."""
    rate, rows = 0.25, 64
    alpha, delta = 0.5, -0.125
    summed = rows * int(alpha * 2**S.activation_bits) * int(delta * 2**S.gradient_bits)
    update = _multiplier(rate, rows) * summed / 2**S.weight_bits
    assert update == pytest.approx(rate * alpha * delta, rel=1e-3)


def _saturated(rows: int, width: int, out_width: int, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Activations at 1 and dL/dZ of one size: every row moves every entry of Z as far as it can."""
    alpha = np.full((rows, width), 1 << S.activation_bits)
    return alpha, np.full((rows, out_width), int(size * 2**S.gradient_bits))


def test_a_step_across_the_whole_guard_band_is_refused_while_values_are_right():
    """Learning rate 4, width 512, a saturated bottom: all of Z wraps and is found within the guard."""
    rate, rows, width = 4.0, 64, 512
    alpha, d_z = _saturated(rows, width, 4, 0.12)
    moved = alpha @ (_multiplier(rate, rows) * (alpha.T @ d_z))
    exact = moved[0, 0] * 2.0 ** -(S.activation_bits + S.weight_bits)
    assert exact > 1.5 * PARAMETERS.z_limit
    assert np.abs(z_to_real(center(moved, S.tau), PARAMETERS)).max() < GUARD * PARAMETERS.z_limit
    with pytest.raises(RangeError, match=r"interaction layer \(Z\) by 2.5e\+02, more than the 128"):
        check_step(d_z, rate, width, PARAMETERS)
    check_step(d_z // 4, rate, width, PARAMETERS)


@settings(deadline=None)
@given(
    rate=st.floats(0.01, 30),
    rows=st.integers(1, 40),
    width=st.integers(1, 40),
    scale=st.floats(0.001, 8),
    seed=st.integers(0, 2**32),
)
def test_no_accepted_step_moves_a_value_past_both_bands(rate, rows, width, scale, seed):
    rng = np.random.default_rng(seed)
    limit = 1 << S.activation_bits
    alpha = rng.choice(np.array([-limit, limit]), (rows, width))
    d_z = np.rint(rng.choice(np.array([-1.0, 0.3, 1.0]), (rows, 3)) * scale * 2**S.gradient_bits).astype(np.int64)
    try:
        check_step(d_z, rate, width, PARAMETERS)
    except RangeError:
        return
    d_w = _multiplier(rate, rows) * (alpha.T @ d_z).astype(np.float64) * 2.0**-S.weight_bits
    other = rng.choice(np.array([-1.0, 1.0]), (50, width))  # rows that are in no batch
    assert np.abs(other @ d_w).max() <= 2 * (1 - GUARD) * PARAMETERS.z_limit
    d_alpha = d_z * 2.0**-S.gradient_bits @ d_w.T
    assert np.abs(d_alpha).max() <= 2 * (1 - GUARD) * PARAMETERS.d_alpha_limit


def test_the_limit_of_a_step_is_reached_by_saturated_bottoms():
    """The width, the rate, the mean of |dL/dZ| and the sum of a momentum's kernel, each to the last unit."""
    rows, width = 64, 32
    for rate, momentum, size in ((16.0, 0.0, 0.25), (1.6, 0.9, 0.25), (8.0, 0.5, 0.25)):
        for share, refused in ((0.99, False), (1.01, True)):
            _, d_z = _saturated(rows, width, 2, share * size)
            arguments = d_z, rate, width, PARAMETERS
            if refused:
                with pytest.raises(RangeError, match="the interaction layer"):
                    check_step(*arguments, momentum=momentum, trains=False)
            else:
                check_step(*arguments, momentum=momentum, trains=False)
    d_z[::2] *= -1  # signs do not matter, as those of activations are unknown
    with pytest.raises(RangeError):
        check_step(d_z, 8.0, width, PARAMETERS, momentum=0.5)


def test_a_value_that_wraps_within_the_limit_of_a_step_is_noticed():
    """From the last accepted value, by the largest accepted step: the wrapped value is where a run stops."""
    limit, unit = PARAMETERS.z_limit, 2.0 ** (S.activation_bits + S.weight_bits)
    for start in (-GUARD * limit, 0.0, GUARD * limit):
        for step in np.linspace(0, 2 * (1 - GUARD) * limit, 33)[:-1]:
            reached = start + step
            wrapped = center(np.array([round(reached * unit)]), S.tau)[0] / unit
            assert reached < limit or abs(wrapped) >= GUARD * limit


def test_matched_noise_takes_its_part_of_the_band():
    _, d_z = _saturated(64, 32, 2, 0.99 * 0.25)
    rate, width = 16.0 / 4.4, 32
    check_step(d_z, rate, width, PARAMETERS, trains=False, relative_noise=0.4)
    with pytest.raises(RangeError, match="the interaction layer"):
        check_step(d_z, rate, width, PARAMETERS, trains=False, relative_noise=0.45)


def test_d_alpha_counts_only_if_a_bottom_trains():
    _, d_z = _saturated(64, 1, 64, 2.0)
    check_step(d_z, 1.0, 1, PARAMETERS, trains=False)
    with pytest.raises(RangeError, match="gradient of a bottom model"):
        check_step(d_z, 1.0, 1, PARAMETERS)
    check_step(d_z // 4, 1.0, 1, PARAMETERS)
