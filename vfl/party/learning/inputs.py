"""A party's commitment to what it puts into a model before training, to which all parties bind their noise."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.job.tables import OptimizerConfig
from vfl.models.config import BottomConfig
from vfl.party.learning.bottom import BottomTrainer
from vfl.privacy.lineage import digest

_GRID = 2.0**-16
"""Outputs are compared on it: finer than what is released, so coarse that another order of sums rarely shows."""


@dataclass(frozen=True)
class InitialBottom:
    """A bottom before training.

    Attributes:
        config: its kind and settings.
        optimizer: how it trains.
        model: None at an active party without features.
        outputs: for all aligned rows, part by part; they cover what a bottom of the user's own computes.
    """

    config: BottomConfig
    optimizer: OptimizerConfig
    model: BottomTrainer | None
    outputs: Iterable[npt.NDArray[np.float64]]


def settings_digest(config: BottomConfig, optimizer: OptimizerConfig) -> bytes:
    """Digest of what a party's own file says of its bottom."""
    return digest("bottom settings", *(part.model_dump_json().encode() for part in (config, optimizer)))


def commit_to_inputs(secret: bytes, table: Table, preprocessor: Preprocessor, bottom: InitialBottom) -> bytes:
    """32 bytes that are the same in every equal run and others if anything differs; only their owner can open them.

    Args:
        secret: of the party, for one job.
        table: the aligned rows.
    """
    parts = [table.digest.encode(), preprocessor.to_json().encode()]
    if bottom.model is not None:
        parts.append(settings_digest(bottom.config, bottom.optimizer))
        parts += map(_digest, sorted(bottom.model.bottom.state_dict().items()))
        outputs = hashlib.sha256()
        for part_BD in bottom.outputs:
            outputs.update(np.rint(part_BD / _GRID).astype("<i8").tobytes())
        parts.append(outputs.digest())
    return hmac.digest(secret, digest("inputs", *parts), "sha256")


def _digest(named: tuple[str, torch.Tensor]) -> bytes:
    name, tensor = named
    content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return digest("tensor", name.encode(), repr((tuple(tensor.shape), tensor.dtype)).encode(), content)
