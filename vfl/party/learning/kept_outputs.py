"""What the active party keeps of the passive parties: one noisy row of Z for each row of its table."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vfl.errors import CheckpointError

Rows = npt.NDArray[np.int64]

_LEAST_ROWS, _STEPS = 32, 16
"""Of a batch, and steps of an epoch, where the job's batch size would leave fewer."""


class KeptOutputs:
    """Noisy Z of every aligned row that was released, (rows, K) float32; zero where nothing was.

    Args:
        rows: of the aligned table.
        width: K.
    """

    def __init__(self, rows: int, width: int) -> None:
        self._z = torch.zeros(rows, width)

    def keep(self, rows: Rows, columns: slice, z_BM: Tensor) -> None:
        """Keep some columns of the Z of a batch."""
        self._z[torch.from_numpy(rows), columns] = z_BM

    def of(self, rows: Rows) -> Tensor:
        """Z of a batch (B, K)."""
        return self._z[torch.from_numpy(rows)]

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs."""
        return {"z": self._z}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Continue from what ``state`` returned.

        Raises:
            CheckpointError: it is of another table or model.
        """
        z = state.get("z")
        if z is None or z.shape != self._z.shape:
            raise CheckpointError("the outputs kept in the checkpoint do not match the job")
        self._z = z.clone()


def local_batch_size(rows: int, batch_size: int) -> int:
    """Rows of a batch of a local epoch: with a small table fewer than the job's, so that an epoch has enough steps."""
    return min(batch_size, max(_LEAST_ROWS, rows // _STEPS))


def share_of_rate(done: float) -> float:
    """What part of the learning rate is left when this part of the local epochs is done: a half cosine down to zero.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017, without restarts.
    """
    return 0.5 * (1.0 + math.cos(math.pi * min(done, 1.0)))
