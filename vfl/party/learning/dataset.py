"""One party's rows, in the order and split that every party derives from the same ids and the job's seed."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vfl.align.order import canonical_order
from vfl.data.preprocess import Features, Preprocessor
from vfl.data.split import epoch_batches, split_rows
from vfl.data.table import Table
from vfl.errors import ProtocolError
from vfl.ids import Batch, Split
from vfl.job.config import JobConfig

Rows = npt.NDArray[np.int64]


class Dataset:
    """Aligned rows with fitted preprocessing.

    Args:
        table: the aligned rows of this party: those whose ids all parties have, in any order.
        job: gives split, batch sizes and the public seed.
    """

    def __init__(self, table: Table, job: JobConfig) -> None:
        aligned = table.select(canonical_order(table.ids))
        self._training = job.training
        self._seed = job.seed
        self._rows = split_rows(len(aligned), job.split.validation, job.split.test, job.seed)
        self.preprocessor = Preprocessor.fit(aligned, self._rows[Split.TRAIN])
        self._features = self.preprocessor.transform(aligned)
        self.labels = aligned.labels
        self._ids = [row_id.encode() for row_id in aligned.ids]
        self._planned: tuple[tuple[Split, int], list[Rows]] | None = None

    def rows_of(self, split: Split) -> Rows:
        """Rows of a split, ascending."""
        return self._rows[split]

    def batch_rows(self, batch: Batch) -> Rows:
        """Rows of a batch, the same at every party.

        Raises:
            ProtocolError: the pass has no batch of this number.
            ConfigError: no pass has this number.
        """
        plan = self._plan(batch.split, batch.epoch)
        if not 0 <= batch.index < len(plan):
            raise ProtocolError(
                f"a batch was asked for that the {batch.split} rows do not have",
                detail=f"{batch}; there are {len(plan)}",
                remedy="check that the coordinator runs the same version of vfl and the same job file",
            )
        return plan[batch.index]

    def batches(self, split: Split, epoch: int) -> list[Batch]:
        """All batches of a pass over a split."""
        return [Batch(split, epoch, index) for index in range(len(self._plan(split, epoch)))]

    def features(self, rows: Rows) -> Features:
        """Preprocessed features of some rows."""
        return self._features.select(rows)

    def ids_of(self, rows: Rows) -> list[bytes]:
        """Ids of some rows."""
        return [self._ids[row] for row in rows]

    def _plan(self, split: Split, epoch: int) -> list[Rows]:
        if self._planned is None or self._planned[0] != (split, epoch):
            training = split is Split.TRAIN
            size = self._training.batch_size if training else self._training.evaluation_batch_size
            batches = epoch_batches(self._rows[split], size, self._seed, epoch, shuffle=training)
            self._planned = ((split, epoch), batches)
        return self._planned[1]
