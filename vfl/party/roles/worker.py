"""A role of a job as the service of a party drives it: the phases that both roles implement."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from vfl.checkpoints.store import Snapshot
from vfl.ids import Batch, CheckpointId, Phase, StepKey
from vfl.job.best_epoch import BestSoFar
from vfl.job.callbacks import Ready
from vfl.messages import Aligned

SETUP_STEP = 0
"""Messages before the first batch are addressed to this step; batches count from 1."""


class LoadedRows(NamedTuple):
    """Number of rows in a party's table, and of rows left out because they have no id or no label."""

    rows: int
    dropped: int
    unlabeled: int = 0


class RoleWorker(Protocol):
    """The active or passive party of one job, as driven by the service."""

    @property
    def best_so_far(self) -> BestSoFar:
        """Which joint pass is the best so far."""

    async def load(self) -> LoadedRows:
        """Read the table; return the number of its rows."""

    def restore(self, snapshot: Snapshot, checkpoint: CheckpointId) -> None:
        """Make the following calls resume from this state instead of starting afresh."""

    async def align(self, key: StepKey, *, count_only: bool) -> Aligned:
        """Find the common ids, exchange keys, build the model; or only count the common ids."""

    async def begin(self, key: StepKey) -> None:
        """Agree on initial interaction weights."""

    def snapshot(self, step: int) -> Snapshot:
        """The state after a step; its tensors change with the next one."""

    async def run_phase(self, key: StepKey, phase: Phase, batch: Batch) -> dict[str, float]:
        """Run one phase of one batch; return published metrics."""

    def ready(self) -> Ready:
        """The facts with which training begins or resumes."""

    def batch_rows(self, batch: Batch) -> int:
        """Number of rows in a batch."""

    async def score(self, batch: Batch) -> dict[str, float]:
        """Metrics of this batch's split: of all batches scored since the last call, or of outputs that are kept."""

    async def save(self, run: str) -> float:
        """Save this party's part of the model; return the certified Lipschitz constant (0 at a passive party)."""
