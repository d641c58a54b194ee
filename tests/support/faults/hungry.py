"""Bottom models that ask for more memory than there is, and touch none of it."""

from __future__ import annotations

import torch
from torch import nn

from vfl.models.config import BottomInputs

BYTES = 2 << 30
PIECES, PIECE_BYTES = 64, 64 << 10


class Hungry(nn.Module):
    """One linear layer. Every pass asks for two gigabytes, and gives them back."""

    def __init__(self, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs.numeric_width, width)

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        torch.empty(BYTES, dtype=torch.uint8)
        return torch.tanh(self.layer(numeric))


class Growing(nn.Module):
    """One linear layer. Every pass takes four megabytes for good, in pieces that also fit where little is left."""

    def __init__(self, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs.numeric_width, width)
        self._kept: list[torch.Tensor] = []

    def forward(self, numeric: torch.Tensor) -> torch.Tensor:
        for _ in range(PIECES):
            self._kept.append(torch.empty(PIECE_BYTES, dtype=torch.uint8))
        return torch.tanh(self.layer(numeric))
