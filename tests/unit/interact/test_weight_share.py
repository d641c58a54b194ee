"""Steps of shares with momentum: those of PyTorch's SGD within rounding, and of the plaintext protocol bit for bit."""

import numpy as np
import pytest
import torch
from support.layers.interaction import PARAMETERS, Layer, encrypted_layer, make_shape, plaintext_layer

from vfl.errors import CheckpointError
from vfl.he.arithmetic.updates import update_kernel
from vfl.interact.fixed_point import center
from vfl.interact.weights import WeightShare
from vfl.runtime.randomness import uniform_ring

S, TAU = PARAMETERS.settings, PARAMETERS.tau
WIDTH, OUT_WIDTH, ALL = 3, 2, slice(0, 2)
RATE = 0.5


def _kernel(momentum: float, rate: float = RATE):
    return lambda rows: update_kernel(rate, momentum, rows, PARAMETERS)


def _gradients(steps: int, rows: int = 64, seed: int = 0) -> list[np.ndarray]:
    """Sums over the rows of a batch, at f_a + f_d bits."""
    rng = np.random.default_rng(seed)
    return [
        rng.integers(-1024, 1025, (rows, WIDTH)).T @ rng.integers(-4096, 4097, (rows, OUT_WIDTH)) for _ in range(steps)
    ]


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.95])
def test_steps_are_those_of_sgd_with_momentum_within_the_rounding_of_the_kernel(momentum):
    rows, gradients = 64, _gradients(60)
    share = WeightShare(np.zeros((WIDTH, OUT_WIDTH), dtype=np.int64), TAU)
    weights = torch.zeros((WIDTH, OUT_WIDTH), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weights], lr=RATE, momentum=momentum)
    largest = 0.0
    for gradient in gradients:
        share.accumulate(gradient, rows, ALL)
        share.step(_kernel(momentum))
        mean = gradient * 2.0 ** -(S.activation_bits + S.gradient_bits) / rows
        weights.grad = torch.from_numpy(mean)
        optimizer.step()
        largest = max(largest, np.abs(mean).max())
        off = np.abs(share.value * 2.0**-S.weight_bits - weights.detach().numpy()).max()
        # Each integer of the kernel is off by at most 1/2, and there are fewer than 300 of them.
        unit = 2.0 ** -(S.weight_bits - S.activation_bits - S.gradient_bits) * rows
        assert off <= 0.5 * unit * min(len(gradients), len(_kernel(momentum)(rows)) + 1) * largest + 1e-12
    assert np.abs(share.value).max() > 0


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_shares_step_like_the_weights_that_they_are_of(momentum):
    """Linear in the gradients: nothing is truncated, in the ring or in a step."""
    start = np.random.default_rng(1).integers(-(2**40), 2**40, (WIDTH, OUT_WIDTH))
    given = uniform_ring(start.shape, TAU)
    whole, *parts = (WeightShare(value, TAU) for value in (start, given, center(start - given, TAU)))
    for gradient in _gradients(12):
        mask = uniform_ring(gradient.shape, TAU)
        for share, part in zip((whole, *parts), (gradient, mask, center(gradient - mask, TAU)), strict=True):
            share.accumulate(part, 64, ALL)
            share.step(_kernel(momentum))
        np.testing.assert_array_equal(center(parts[0].value + parts[1].value, TAU), whole.value)


def test_a_gradient_may_come_in_batches_and_for_some_columns():
    together, apart = (WeightShare(np.zeros((WIDTH, OUT_WIDTH), dtype=np.int64), TAU) for _ in range(2))
    first, second = _gradients(2)
    together.accumulate((first + second)[:, 1:], 128, slice(1, 2))
    for gradient in (first, second):
        apart.accumulate(gradient[:, 1:], 64, slice(1, 2))
    for share in (together, apart):
        share.step(_kernel(0.0))
    np.testing.assert_array_equal(together.value, apart.value)
    assert not together.value[:, 0].any()
    assert together.value[:, 1].all()


@pytest.mark.parametrize("at", ["between steps", "within a step"])
def test_a_restored_share_goes_on_as_if_nothing_had_happened(at):
    gradients = _gradients(10)
    going_on, interrupted = (WeightShare(np.ones((WIDTH, OUT_WIDTH), dtype=np.int64), TAU) for _ in range(2))
    for number, gradient in enumerate(gradients):
        for share in (going_on, interrupted):
            share.accumulate(gradient, 64, ALL)
        if number == 5 and at == "within a step":
            interrupted = _restored(interrupted)
        for share in (going_on, interrupted):
            share.step(_kernel(0.9))
        if number == 5 and at == "between steps":
            interrupted = _restored(interrupted)
    np.testing.assert_array_equal(going_on.value, interrupted.value)


def _restored(share: WeightShare) -> WeightShare:
    state = {name: value.copy() for name, value in share.state().items()}
    fresh = WeightShare(np.zeros((WIDTH, OUT_WIDTH), dtype=np.int64), TAU)
    fresh.restore(state)
    return fresh


def test_a_state_that_was_taken_does_not_change_with_later_steps():
    share = WeightShare(np.ones((WIDTH, OUT_WIDTH), dtype=np.int64), TAU)
    share.accumulate(_gradients(1)[0], 64, ALL)
    state = share.state()
    copies = {name: value.copy() for name, value in state.items()}
    share.accumulate(_gradients(1)[0], 64, ALL)
    share.step(_kernel(0.9))
    for name, value in copies.items():
        np.testing.assert_array_equal(state[name], value)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.pop("weights"),
        lambda state: state.pop("gradients"),
        lambda state: state.pop("gradient_rows"),
        lambda state: state.update(weights=np.zeros((WIDTH, OUT_WIDTH + 1), dtype=np.int64)),
        lambda state: state.update(gradients=state["gradients"][:0], gradient_rows=state["gradient_rows"][:0]),
        lambda state: state.update(gradient_rows=np.zeros(3, dtype=np.int64)),
        lambda state: state.update(gradients=state["gradients"][:, :, :1]),
    ],
)
def test_a_state_of_other_weights_is_refused(change):
    share = WeightShare(np.ones((WIDTH, OUT_WIDTH), dtype=np.int64), TAU)
    state = share.state()
    change(state)
    with pytest.raises(CheckpointError, match="do not match the job"):
        WeightShare(np.zeros((WIDTH, OUT_WIDTH), dtype=np.int64), TAU).restore(state)


# --- both implementations of the layer ---

WIDTHS = {"bank": 3, "telco": 2}


def _step(layer: Layer, step: int) -> list[np.ndarray]:
    rng = np.random.default_rng([step, 5])
    alpha = {name: rng.integers(-1024, 1025, (20, width)) for name, width in WIDTHS.items()}
    z = layer.forward(step, alpha)
    d_alpha = layer.backward(step, rng.integers(-4096, 4097, (20, OUT_WIDTH)), _kernel(0.9))
    return [z, *(value for value in d_alpha.values() if value is not None), *layer.shares().values()]


def _sides(layer: Layer):
    return {"active": layer.active, **layer.passive}


def _lineages(layer: Layer) -> set[bytes]:
    return {side.state()["lineage"].tobytes() for side in _sides(layer).values()}


def test_encrypted_steps_with_momentum_and_noise_are_those_of_plaintext_also_after_a_restoration():
    shape = make_shape(WIDTHS, OUT_WIDTH, frozenset({"telco"}))
    encrypted, plaintext = encrypted_layer(shape, 3, sigma=0.3), plaintext_layer(shape, 3, sigma=0.3)
    encrypted.setup()
    plaintext.setup()
    for step in range(6):
        if step == 3:  # fresh keys and sides, as in a new attempt
            states = {name: side.state() for name, side in _sides(encrypted).items()}
            encrypted = encrypted_layer(shape, 3, sigma=0.3)
            for name, side in _sides(encrypted).items():
                side.restore(states[name])
        for got, expected in zip(_step(encrypted, step), _step(plaintext, step), strict=True):
            np.testing.assert_array_equal(got, expected)
        assert len(_lineages(encrypted) | _lineages(plaintext)) == 1
    assert _lineages(plaintext) != _lineages(plaintext_layer(shape, 3))


@pytest.mark.parametrize("make", [encrypted_layer, plaintext_layer])
def test_a_side_refuses_the_state_of_another_layer(make):
    states = {name: side.state() for name, side in _sides(make(make_shape(WIDTHS, OUT_WIDTH))).items()}
    for other in (
        make_shape({"bank": 3}, OUT_WIDTH),
        make_shape(WIDTHS, OUT_WIDTH + 1),
        make_shape({"bank": 4, "telco": 2}, 2),
    ):
        with pytest.raises(CheckpointError, match="do not match the job"):
            make(other).active.restore(states["active"])
    side = make(make_shape(WIDTHS, OUT_WIDTH)).active
    for broken in ({}, {**states["active"], "lineage": np.zeros(31, dtype=np.int64)}):
        with pytest.raises(CheckpointError):
            side.restore(broken)


def test_columns_are_computed_and_trained_apart():
    """As in stagewise training: gradients of some columns, then these columns of Z."""
    shape = make_shape(WIDTHS, 4, frozenset(WIDTHS))
    encrypted, plaintext = encrypted_layer(shape, 3, sigma=0.3), plaintext_layer(shape, 3, sigma=0.3)
    rng = np.random.default_rng(0)
    for layer in (encrypted, plaintext):
        layer.setup()
    for stage, columns in enumerate((slice(0, 2), slice(2, 4))):
        alpha = {name: rng.integers(-1024, 1025, (20, width)) for name, width in WIDTHS.items()}
        d_z = rng.integers(-4096, 4097, (20, 2))
        before = plaintext.shares()
        for layer in (encrypted, plaintext):
            layer.gradient(2 * stage, alpha, d_z, columns=columns)
            for side in _sides(layer).values():
                side.step(_kernel(0.0))
        for name, weights in plaintext.shares().items():
            np.testing.assert_array_equal(encrypted.shares()[name], weights)
            changed = (weights != before[name]).any(axis=0)
            assert np.flatnonzero(changed).tolist() == list(range(columns.start, columns.stop))
        z, expected = (layer.forward(2 * stage + 1, alpha, columns=columns) for layer in (encrypted, plaintext))
        np.testing.assert_array_equal(z, expected)
        assert z.shape == (20, 2)
