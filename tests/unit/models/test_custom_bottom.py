"""A party's own bottom: how it is called, frozen ones, and every way a factory can go wrong."""

import sys
import types

import pytest
import torch
from torch import nn

from vfl.errors import ConfigError, ModelError
from vfl.models.bottoms import build_bottom, probe_bottom
from vfl.models.config import BottomInputs, CustomBottom

LOCAL_PATH = "/home/analyst/clients.csv"


class Pair(nn.Module):
    """Takes both kinds of columns."""

    def __init__(self, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs.numeric_width + len(inputs.cardinalities), width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, numeric, categorical):
        return torch.tanh(self.norm(self.linear(torch.cat([numeric, categorical.float()], dim=1))))


def numeric_only(inputs: BottomInputs, width: int, gain: float = 1.0) -> nn.Module:
    layer = nn.Linear(inputs.numeric_width, width)
    nn.init.constant_(layer.bias, gain)
    return nn.Sequential(layer, nn.Tanh())


def raising(inputs: BottomInputs, width: int) -> nn.Module:
    raise FileNotFoundError(LOCAL_PATH)


@pytest.fixture(autouse=True)
def acme(monkeypatch):
    module = types.ModuleType("acme_models")
    module.Pair, module.numeric_only, module.raising = Pair, numeric_only, raising
    module.not_a_module = lambda inputs, width: object()
    module.setting = 3
    monkeypatch.setitem(sys.modules, "acme_models", module)


def test_numeric_columns_alone_are_passed_alone_and_options_arrive():
    config = CustomBottom(factory="acme_models:numeric_only", options={"gain": 0.5})
    bottom = build_bottom(config, BottomInputs(3), 2, seed=1)
    assert bottom.module[0].bias.tolist() == [0.5, 0.5]
    probe_bottom(bottom, "bank")


def test_both_kinds_of_columns_are_passed():
    bottom = build_bottom(CustomBottom(factory="acme_models:Pair"), BottomInputs(3, (4,)), 2, seed=1)
    probe_bottom(bottom, "bank")
    assert bottom.trainable


def test_the_seed_reaches_the_factory():
    config = CustomBottom(factory="acme_models:numeric_only")
    weights = [build_bottom(config, BottomInputs(3), 2, seed=seed).module[0].weight for seed in (1, 1, 2)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_frozen_bottom_takes_no_gradient_and_never_changes():
    config = CustomBottom(factory="acme_models:Pair", frozen=True)
    bottom = build_bottom(config, BottomInputs(3, (4,)), 2, seed=1)
    before = {name: value.clone() for name, value in bottom.state_dict().items()}
    bottom.train()
    alpha_BD = bottom(torch.randn(16, 3), torch.randint(4, (16, 1)))
    assert not bottom.trainable
    assert not alpha_BD.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in bottom.state_dict().items())
    probe_bottom(bottom, "bank")


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        ("acme_absent:make", ConfigError, "cannot be found"),
        ("acme_models:absent", ConfigError, "no such callable"),
        ("acme_models:setting", ConfigError, "no such callable"),
        ("acme_models:not_a_module", ModelError, "did not return a torch.nn.Module"),
        ("acme_models:raising", ModelError, "raised an exception in its factory"),
    ],
)
def test_factory_errors_have_a_remedy_and_a_summary_without_local_names(factory, error, message):
    with pytest.raises(error, match=message) as caught:
        build_bottom(CustomBottom(factory=factory), BottomInputs(3), 2, seed=1)
    assert "acme" in caught.value.detail or __file__ in caught.value.detail
    assert "acme" not in caught.value.summary
    assert LOCAL_PATH not in caught.value.summary
    assert caught.value.remedy


def test_a_module_that_fails_while_being_imported_is_an_error_of_the_model(tmp_path, monkeypatch):
    (tmp_path / "acme_broken.py").write_text("raise RuntimeError('no license')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match="while its module was imported") as caught:
        build_bottom(CustomBottom(factory="acme_broken:make"), BottomInputs(3), 2, seed=1)
    assert "no license" in caught.value.detail


def test_unknown_options_are_reported_as_the_factory_saw_them():
    config = CustomBottom(factory="acme_models:numeric_only", options={"depth": 3})
    with pytest.raises(ModelError, match="in its factory") as caught:
        build_bottom(config, BottomInputs(3), 2, seed=1)
    assert "depth" in caught.value.detail
    assert "options" in caught.value.remedy
