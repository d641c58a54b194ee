"""The examples of docs/custom-bottoms.md, as a party's own module beside its file."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vfl.models.bottoms import build_bottom, probe_bottom
from vfl.models.config import BottomInputs, CustomBottom
from vfl.models.custom import load_factory

DOCUMENT = Path(__file__).parents[3] / "docs" / "custom-bottoms.md"


@pytest.fixture
def folder(tmp_path):
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    (tmp_path / "documented_bottoms.py").write_text("\n".join(blocks), encoding="utf-8")
    encoder = nn.Sequential(nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 5), nn.Tanh())
    save_file(encoder.state_dict(), tmp_path / "encoder.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "inputs", "frozen"),
    [
        ("Tabular", BottomInputs(3), False),
        ("Tabular", BottomInputs(3, (2, 7)), False),
        ("Images", BottomInputs(64), False),
        ("pretrained", BottomInputs(3), True),
    ],
)
def test_the_examples_keep_the_contract(folder, name, inputs, frozen):
    config = CustomBottom(factory=f"documented_bottoms:{name}", frozen=frozen)
    bottom = build_bottom(config, inputs, 5, 1, load_factory(config.factory, folder))
    probe_bottom(bottom, "telco")
    assert bottom.trainable is not frozen
    if name == "pretrained":
        saved = torch.nn.Sequential(*list(bottom.module.children())).state_dict()
        assert all(torch.equal(saved[key], value) for key, value in bottom.module.state_dict().items())
