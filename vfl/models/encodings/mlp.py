"""A trained network that sees its columns and, beside them, the cells of a frozen encoding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from vfl.models.config import BottomInputs, MlpBottom
from vfl.models.encodings.network import EncodingsNetwork
from vfl.models.networks import MlpNetwork


class EncodedMlp(nn.Module):
    """An ``MlpNetwork`` over the columns and their cells.

    Args:
        encodings: fitted, or empty until a saved state is loaded.
    """

    def __init__(self, encodings: EncodingsNetwork, config: MlpBottom, inputs: BottomInputs, width: int) -> None:
        super().__init__()
        self.encodings = encodings
        self.mlp = MlpNetwork(config, replace(inputs, numeric_width=inputs.numeric_width + encodings.width), width)

    def forward(self, numeric: Tensor, categorical: Tensor | None = None) -> Tensor:
        """(B, p) floats and (B, c) codes to (B, d)."""
        cells = self.encodings(numeric, categorical).to(numeric)
        out: Tensor = self.mlp(torch.cat([numeric, cells], dim=1), categorical)
        return out

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *rest: Any) -> None:
        """Take the number of cells from the state: that of an empty encoding is not known before."""
        first, saved = self.mlp.layers[0], state_dict.get(f"{prefix}mlp.layers.0.weight")
        if isinstance(first, nn.Linear) and saved is not None and saved.ndim == 2 and not self.encodings.width:
            # Not initialized, which would draw from the random numbers of whoever loads it.
            empty = nn.Linear(saved.shape[1], first.out_features, device="meta")
            self.mlp.layers[0] = empty.to_empty(device=first.weight.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
