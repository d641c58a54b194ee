"""A party's commitment to what it puts into a model before training, to which all parties bind their noise."""

from __future__ import annotations

import hmac

import torch

from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.models.config import BottomConfig
from vfl.party.learning.bottom import BottomTrainer
from vfl.privacy.lineage import digest


def commit_to_inputs(
    secret: bytes, table: Table, preprocessor: Preprocessor, config: BottomConfig, bottom: BottomTrainer | None
) -> bytes:
    """32 bytes that are the same in every equal run and others if anything differs; only their owner can open them.

    Args:
        secret: of the party, for one job.
        table: the aligned rows.
        config: of the bottom.
        bottom: before training; None at an active party without features.
    """
    parts = [table.digest.encode(), preprocessor.to_json().encode()]
    if bottom is not None:
        parts += [config.model_dump_json().encode(), *map(_digest, sorted(bottom.bottom.state_dict().items()))]
    return hmac.digest(secret, digest("inputs", *parts), "sha256")


def _digest(named: tuple[str, torch.Tensor]) -> bytes:
    name, tensor = named
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return digest("tensor", name.encode(), repr((tuple(tensor.shape), tensor.dtype)).encode(), content)
