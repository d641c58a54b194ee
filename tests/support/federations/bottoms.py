"""Bottoms that a party might bring, for processes of the tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from vfl.models.config import BottomInputs


def with_dropout(inputs: BottomInputs, width: int) -> nn.Module:
    """Draws at random in every step, and keeps running means that are not trained."""
    return nn.Sequential(
        nn.Linear(inputs.numeric_width, 8),
        nn.BatchNorm1d(8),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(8, width),
        nn.Tanh(),
    )


def unseeded(inputs: BottomInputs, width: int) -> nn.Module:
    """Has other parameters whenever it is built."""
    first = nn.Linear(inputs.numeric_width, 8)
    with torch.no_grad():
        first.weight += torch.from_numpy(np.random.default_rng().uniform(-0.1, 0.1, tuple(first.weight.shape)))
    return nn.Sequential(first, nn.ReLU(), nn.Linear(8, width), nn.Tanh())
