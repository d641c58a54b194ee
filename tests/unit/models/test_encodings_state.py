"""Fitted encodings are the same bits in every process, and saved states restore exactly them."""

import copy
import hashlib
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load, save

from vfl.data.preprocess import Features
from vfl.errors import CheckpointError
from vfl.job.tables import OptimizerConfig
from vfl.models.arithmetic import torch_threads
from vfl.models.bottoms import build_bottom
from vfl.models.config import BottomInputs, EncodingsBottom
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.snapshots import load as restore

INPUTS = BottomInputs(7, (5, 90), indicated=(0,))


def table(rows=5000):
    generator = torch.Generator().manual_seed(0)
    numeric = torch.randn(rows, 6, generator=generator)
    numeric[:, 3] = numeric[:, 2]  # twice the same eigenvalues
    missing = torch.rand(rows, 1, generator=generator) < 0.1
    codes = torch.stack([torch.randint(n, (rows,), generator=generator) for n in INPUTS.cardinalities], dim=1)
    return Features(torch.cat([numeric, missing.float()], dim=1), codes)


def build(config=None, training=None, inputs=INPUTS):
    return build_bottom(config or EncodingsBottom(), inputs, 3, seed=0, training=training)


def fingerprint():
    training = table()
    bottom = build(training=training)
    alpha = bottom(training.numeric, training.categorical)
    state = [value.numpy().tobytes() for value in bottom.state_dict().values()]
    return hashlib.sha256(b"".join([*state, alpha.numpy().tobytes()])).hexdigest()


@pytest.mark.slow
def test_processes_and_numbers_of_threads_give_the_same_bits():
    expected = fingerprint()
    with torch_threads(3):
        assert fingerprint() == expected
    code = f"import sys; sys.path[:0] = {sys.path!r}; import test_encodings_state as own; print(own.fingerprint())"
    environment = os.environ | {"OMP_NUM_THREADS": "4", "OPENBLAS_NUM_THREADS": "4"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == expected


@pytest.mark.parametrize("config", [EncodingsBottom(), EncodingsBottom(whiten=False), EncodingsBottom(bins=2, clip=3)])
@pytest.mark.parametrize("other_first", [False, True])
def test_a_saved_state_restores_the_bits_whatever_the_module_held_before(config, other_first):
    training = table()
    fitted = build(config, training)
    state = load(save(fitted.state_dict()))
    bottom = build(config, table(rows=40) if other_first else None)
    bottom.load_state_dict(state)
    assert bottom.width == fitted.width
    assert all(torch.equal(value, bottom.state_dict()[name]) for name, value in fitted.state_dict().items())
    expected = fitted(training.numeric, training.categorical)
    assert torch.equal(bottom(training.numeric, training.categorical), expected)
    assert torch.equal(copy.deepcopy(bottom)(training.numeric, training.categorical), expected)


def test_a_checkpoint_restores_an_empty_bottom():
    training = table()
    fitted, empty = (
        BottomTrainer(build(training=given), "bank", OptimizerConfig(), "cpu") for given in (training, None)
    )
    restore(empty, fitted.state())
    assert torch.equal(empty.forward(training, training=True), fitted.forward(training, training=True))
    empty.backward(None)


def test_numeric_and_categorical_columns_alone_can_be_restored():
    training = table()
    for inputs, part in (
        (BottomInputs(7, indicated=(0,)), Features(training.numeric, training.categorical[:, :0])),
        (BottomInputs(0, INPUTS.cardinalities), Features(training.numeric[:, :0], training.categorical)),
    ):
        fitted, other = build(training=part, inputs=inputs), build(inputs=inputs)
        other.load_state_dict(load(save(fitted.state_dict())))
        expected = fitted(part.numeric, part.categorical)
        assert torch.equal(other(part.numeric, part.categorical), expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"column": lambda value: value + 7}, "column is out of range"),
        ({"missing": lambda value: value - 9}, "missing is out of range"),
        ({"indicator": lambda value: value - 9}, "indicator is out of range"),
        ({"category": lambda value: value[1:]}, "94 codes, expected 95"),
        ({"lower": lambda value: value[1:]}, "differ in number"),
        ({"weight": lambda value: value[1:]}, "weight is"),
        ({"offset": lambda value: value[1:]}, "weight is"),
        ({"slope": lambda value: value / 0.0}, "not finite"),
        ({"weight": lambda value: value.float()}, ""),
        ({"weight": lambda value: value[0]}, "size mismatch"),
    ],
)
def test_a_state_that_does_not_fit_the_columns_is_refused(change, message):
    state = build(training=table()).state_dict()
    damaged = state | {f"module.{name}": make(state[f"module.{name}"]) for name, make in change.items()}
    trainer = BottomTrainer(build(), "bank", OptimizerConfig(), "cpu")
    with pytest.raises(CheckpointError, match="does not match this party's configuration") as caught:
        restore(trainer, {f"model.{name}": value for name, value in damaged.items()})
    assert message in caught.value.detail


def test_a_state_of_other_options_or_another_kind_is_refused():
    state = build(training=table()).state_dict()
    for other in (build(EncodingsBottom(whiten=False)), build(inputs=BottomInputs(7, (5, 91), indicated=(0,)))):
        with pytest.raises(RuntimeError, match="fitted to other columns or options"):
            other.load_state_dict(state)
    del state["module.offset"]
    with pytest.raises(RuntimeError, match="Missing key"):
        build().load_state_dict(state)
