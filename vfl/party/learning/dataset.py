"""One party's rows, in the order and the parts that are the same at every party."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vfl.align.order import canonical_order
from vfl.data.preprocess import Features, Preprocessor
from vfl.data.split import Parts, split_rows
from vfl.data.table import Table
from vfl.errors import ProtocolError
from vfl.ids import Batch, Split
from vfl.job.config import JobConfig
from vfl.job.plan import Plan
from vfl.job.schedule import planned_batches

Rows = npt.NDArray[np.int64]


class Dataset:
    """Aligned rows with fitted preprocessing.

    Args:
        table: this party's aligned rows (those whose ids all parties have), in any order.
        job: provides the batch sizes and the public seed.
        parts: which rows train, validate and test; by default the random split that follows from the job's seed.
    """

    def __init__(self, table: Table, job: JobConfig, parts: Parts | None = None) -> None:
        aligned = table.select(canonical_order(table.ids))
        self._job = job
        self.plan = Plan(job)
        if parts is None:
            parts = split_rows(len(aligned), job.split.validation, job.split.test, job.seed)
        self._rows = parts
        self.preprocessor = Preprocessor.fit(aligned, self._rows[Split.TRAIN])
        self._features = self.preprocessor.transform(aligned)
        self.labels = aligned.labels
        self._weights = aligned.weights
        self.understood = aligned.understood
        self._own_ids = [row_id.encode() for row_id in aligned.own_ids]
        self._planned: tuple[tuple[Split, int], list[Rows]] | None = None

    def __len__(self) -> int:
        """Number of aligned rows."""
        return sum(map(len, self._rows.values()))

    def rows_of(self, split: Split) -> Rows:
        """Rows of a split, in ascending order."""
        return self._rows[split]

    def batch_rows(self, batch: Batch) -> Rows:
        """Rows of a batch, the same at every party.

        Raises:
            ProtocolError: the job has no epoch with this number, or the epoch no batch with this index.
        """
        # Test rows are scored after the last epoch, under the number that would follow.
        plan = self._batches(batch.split, batch.epoch) if 0 <= batch.epoch <= len(self.plan.epochs) else []
        if not 0 <= batch.index < len(plan):
            raise ProtocolError(
                f"the coordinator requested a batch that does not exist in the {batch.split} rows",
                detail=f"{batch}; the epoch has {len(plan)} batches",
                remedy="check that the coordinator runs the same version of vfl and the same job file",
            )
        return plan[batch.index]

    def batches(self, split: Split, epoch: int) -> list[Batch]:
        """All batches of a pass over a split."""
        return [Batch(split, epoch, index) for index in range(len(self._batches(split, epoch)))]

    def features(self, rows: Rows) -> Features:
        """Preprocessed features of the given rows."""
        return self._features.select(rows)

    def weights_of(self, rows: Rows) -> npt.NDArray[np.float64] | None:
        """Entries of the weight column; None without one."""
        return None if self._weights is None else self._weights[rows]

    def ids_of(self, rows: Rows) -> list[bytes]:
        """Ids of some rows, as this party's own table has them."""
        return [self._own_ids[row] for row in rows]

    def _batches(self, split: Split, epoch: int) -> list[Rows]:
        if self._planned is None or self._planned[0] != (split, epoch):
            batches = planned_batches(self._job, self.plan, self._rows[split], Batch(split, epoch, 0))
            self._planned = ((split, epoch), batches)
        return self._planned[1]
