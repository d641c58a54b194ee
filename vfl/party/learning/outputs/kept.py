"""What the active party keeps of the passive parties: one noisy row of Z for each row of its table."""

from __future__ import annotations

import torch
from torch import Tensor

from vfl.errors import CheckpointError
from vfl.party.learning.dataset import Rows


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
            raise CheckpointError("the outputs kept in the checkpoint do not match the job", remedy="start a new run")
        self._z = z.clone()
