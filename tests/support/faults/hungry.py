"""A bottom model that asks for two gigabytes in every step, and touches none of them."""

from __future__ import annotations

import torch
from torch import nn

from vfl.models.config import BottomInputs

BYTES = 2 << 30


class Hungry(nn.Module):
    """One linear layer."""

    def __init__(self, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs.numeric_width, width)

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        torch.empty(BYTES, dtype=torch.uint8)
        return torch.tanh(self.layer(numeric))
