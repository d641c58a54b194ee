"""The built-in bottom networks. Each maps (B, p) numeric and (B, c) categorical inputs to (B, d) within [-1, 1]."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from vfl.errors import ModelError
from vfl.models.config import BottomInputs, CnnBottom, IdentityBottom, MlpBottom

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU}


class MlpNetwork(nn.Module):
    """Numeric columns and one embedding per categorical column, then Linear and activation, Linear, Tanh."""

    def __init__(self, config: MlpBottom, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.embeddings = nn.ModuleList(nn.Embedding(codes, config.embedding_width) for codes in inputs.cardinalities)
        widths = [inputs.numeric_width + config.embedding_width * len(inputs.cardinalities), *config.hidden]
        if not widths[0]:
            raise ModelError(
                "a bottom model needs at least one column",
                remedy="list feature columns in [data] of party.toml, or omit [bottom] at an active party without any",
            )
        layers: list[nn.Module] = []
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), _ACTIVATIONS[config.activation]()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], width), nn.Tanh())

    def forward(self, numeric: Tensor, categorical: Tensor | None = None) -> Tensor:
        """(B, p) floats and (B, c) codes to (B, d)."""
        columns = [numeric]
        if categorical is not None:
            columns += [embed(categorical[:, j]) for j, embed in enumerate(self.embeddings)]
        out: Tensor = self.layers(torch.cat(columns, dim=1))
        return out


class CnnNetwork(nn.Module):
    """The numeric columns as an image: 3 x 3 convolutions with ReLU and halving max pools, then Linear and Tanh."""

    def __init__(self, config: CnnBottom, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        _refuse_categorical(inputs, "cnn")
        if math.prod(config.shape) != inputs.numeric_width:
            raise ModelError(
                "the image shape of the 'cnn' bottom does not match the number of numeric columns",
                detail=f"shape {config.shape} has {math.prod(config.shape)} pixels, "
                f"the table has {inputs.numeric_width} numeric columns",
                remedy="in [bottom] of party.toml, set shape = [channels, height, width] with one column per pixel",
            )
        channels, *size = config.shape
        layers: list[nn.Module] = [nn.Unflatten(1, config.shape)]
        for fan_out in config.channels:
            layers += [nn.Conv2d(channels, fan_out, kernel_size=3, padding=1), nn.ReLU()]
            if min(size) >= 2:
                layers.append(nn.MaxPool2d(2))
                size = [extent // 2 for extent in size]
            channels = fan_out
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * math.prod(size), width), nn.Tanh())

    def forward(self, numeric: Tensor) -> Tensor:
        """(B, channels * height * width) to (B, d)."""
        out: Tensor = self.layers(numeric)
        return out


class IdentityNetwork(nn.Module):
    """No parameters: numeric columns times a fixed scale, clamped to [-1, 1]."""

    def __init__(self, config: IdentityBottom, inputs: BottomInputs) -> None:
        super().__init__()
        _refuse_categorical(inputs, "identity")
        self.scale = config.scale

    def forward(self, numeric: Tensor) -> Tensor:
        """(B, p) to (B, p)."""
        return (numeric * self.scale).clamp(-1.0, 1.0)


def _refuse_categorical(inputs: BottomInputs, kind: str) -> None:
    if inputs.cardinalities:
        raise ModelError(
            f"the '{kind}' bottom takes numeric columns only",
            detail=f"the table has {len(inputs.cardinalities)} categorical column(s)",
            remedy="in party.toml, drop the categorical columns or set [bottom] kind = 'mlp', which embeds them",
        )
