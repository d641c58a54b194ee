"""Built-in bottoms: shapes, range, seeds, and the output contract."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vfl.errors import ModelError
from vfl.models.bottoms import Bottom, build_bottom, probe_bottom
from vfl.models.config import BottomInputs, CnnBottom, IdentityBottom, MlpBottom

WIDTH = 5
MIXED = BottomInputs(numeric_width=4, cardinalities=(3, 7))
CASES = [
    pytest.param(MlpBottom(), MIXED, WIDTH, id="mlp-mixed"),
    pytest.param(MlpBottom(hidden=(), activation="gelu"), BottomInputs(0, (2,)), WIDTH, id="mlp-categorical-only"),
    pytest.param(CnnBottom(shape=(2, 5, 3)), BottomInputs(30), WIDTH, id="cnn"),
    pytest.param(CnnBottom(shape=(1, 1, 4), channels=(4, 4)), BottomInputs(4), WIDTH, id="cnn-one-pixel-high"),
    pytest.param(IdentityBottom(), BottomInputs(6), 6, id="identity"),
]


def batch(inputs: BottomInputs, rows: int = 9, scale: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    numeric = torch.randn(rows, inputs.numeric_width, generator=generator) * scale
    codes = [torch.randint(n, (rows,), generator=generator) for n in inputs.cardinalities]
    return numeric, torch.stack(codes, dim=1) if codes else torch.empty(rows, 0, dtype=torch.int64)


@pytest.mark.parametrize(("config", "inputs", "width"), CASES)
@pytest.mark.parametrize("scale", [1.0, 1e6])
def test_output_keeps_the_contract_however_large_the_features(config, inputs, width, scale):
    bottom = build_bottom(config, inputs, width, seed=1)
    alpha_BD = bottom(*batch(inputs, scale=scale))
    assert alpha_BD.shape == (9, width)
    bottom.check_output(alpha_BD, "bank", rows=9)
    probe_bottom(bottom, "bank")


@pytest.mark.parametrize(("config", "inputs", "width"), CASES[:4])
def test_every_column_reaches_the_output_and_every_parameter_gets_a_gradient(config, inputs, width):
    bottom = build_bottom(config, inputs, width, seed=1)
    numeric, categorical = batch(inputs, rows=64)
    numeric.requires_grad_()
    bottom(numeric, categorical).square().sum().backward()
    assert bottom.trainable
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in bottom.parameters())
    if inputs.numeric_width:
        assert numeric.grad.abs().sum(dim=0).all()


@pytest.mark.parametrize(("config", "inputs", "width"), CASES[:4])
def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone(config, inputs, width):
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = build_bottom(config, inputs, width, seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    again, other = (build_bottom(config, inputs, width, seed=seed).state_dict() for seed in (5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_identity_scales_and_clamps_and_is_frozen():
    bottom = build_bottom(IdentityBottom(scale=0.5), BottomInputs(3), 3, seed=0)
    alpha_BD = bottom(torch.tensor([[1.0, -1.0, 8.0]]), torch.empty(1, 0, dtype=torch.int64))
    assert alpha_BD.tolist() == [[0.5, -0.5, 1.0]]
    assert not bottom.trainable


@pytest.mark.parametrize(
    ("config", "inputs", "width", "message"),
    [
        (MlpBottom(), BottomInputs(0), 2, "at least one column"),
        (CnnBottom(shape=(1, 2, 2)), BottomInputs(5), 2, "image shape"),
        (CnnBottom(shape=(1, 2, 2)), BottomInputs(4, (3,)), 2, "numeric columns only"),
        (IdentityBottom(), BottomInputs(4, (3,)), 4, "numeric columns only"),
    ],
)
def test_a_model_that_does_not_fit_the_columns_is_refused_with_a_remedy(config, inputs, width, message):
    with pytest.raises(ModelError, match=message) as caught:
        build_bottom(config, inputs, width, seed=0)
    assert "party.toml" in caught.value.remedy


def test_other_columns_than_built_for_are_refused():
    bottom = build_bottom(MlpBottom(), MIXED, WIDTH, seed=0)
    with pytest.raises(ModelError, match="built for different columns") as caught:
        bottom(*batch(BottomInputs(4, (3,))))
    assert "(4, 2)" in caught.value.detail


@pytest.mark.parametrize(
    ("alpha_BD", "what", "remedy"),
    [
        (torch.zeros(4, 2), "agreed shape", "width"),
        (torch.zeros(3, 3), "agreed shape", "width"),
        (torch.zeros(4, 3, 1), "agreed shape", "width"),
        (torch.zeros(4, 3, dtype=torch.int64), "agreed shape and type", "width"),
        (torch.full((4, 3), float("nan")), "not finite", "learning rate"),
        (torch.full((4, 3), float("-inf")), "not finite", "learning rate"),
        (torch.full((4, 3), -1.0001), r"not within \[-1, 1\]", "Tanh"),
    ],
)
def test_broken_outputs_name_the_layer_the_party_and_the_key(alpha_BD, what, remedy):
    bottom = Bottom(nn.Sequential(nn.Linear(2, 3), nn.Hardtanh()), BottomInputs(2), 3)
    with pytest.raises(ModelError, match=what) as caught:
        bottom.check_output(alpha_BD, "bank", rows=4)
    assert "'bank'" in caught.value.summary
    assert "1.0001" not in caught.value.summary
    assert "'1' (Hardtanh)" in caught.value.detail
    assert "[bottom] in party.toml" in caught.value.detail
    assert remedy in caught.value.remedy


@given(st.floats(min_value=-1.0, max_value=1.0, width=32))
@settings(max_examples=30)
def test_every_value_within_one_is_accepted(value):
    Bottom(nn.Identity(), BottomInputs(1), 1).check_output(torch.full((2, 1), value), "bank")


def test_an_empty_batch_is_accepted():
    Bottom(nn.Identity(), BottomInputs(3), 3).check_output(torch.empty(0, 3), "bank")


class Detached(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)

    def forward(self, numeric):
        return torch.tanh(self.linear(numeric)).detach()


@pytest.mark.parametrize(
    ("module", "width", "message"),
    [
        (nn.Linear(2, 3), 3, r"not within \[-1, 1\]"),
        (nn.Sequential(nn.Linear(2, 4), nn.Tanh()), 3, "agreed shape"),
        (nn.Sequential(nn.Linear(5, 3), nn.Tanh()), 3, "fails on a batch"),
        (Detached(), 3, "does not depend on its trainable parameters"),
    ],
)
def test_probe_refuses_a_broken_model_before_the_job_starts(module, width, message):
    nn.init.constant_(next(module.parameters()), 5.0)
    with pytest.raises(ModelError, match=message) as caught:
        probe_bottom(Bottom(module, BottomInputs(2), width), "bank")
    assert caught.value.remedy


def test_probe_leaves_the_model_and_the_global_generator_as_they_were():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Dropout(), nn.Tanh())
    bottom = Bottom(module, BottomInputs(2), 3)
    state = {name: value.clone() for name, value in bottom.state_dict().items()}
    generator = torch.get_rng_state()
    probe_bottom(bottom, "bank")
    assert bottom.training
    assert all(torch.equal(value, state[name]) for name, value in bottom.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)


def test_probe_tries_evaluation_mode_too():
    class EvaluationBreaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.tensor(3.0))

        def forward(self, numeric):
            return torch.tanh(self.gain * numeric) if self.training else self.gain * numeric

    with pytest.raises(ModelError, match="not within"):
        probe_bottom(Bottom(EvaluationBreaks(), BottomInputs(3), 3), "bank")
