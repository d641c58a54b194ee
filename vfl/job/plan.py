"""The epochs of a job, in their order, before it is known how many rows it has.

*Joint* training takes one step of every part of the model for each batch. *Stagewise* training (after Friedman,
"Greedy function approximation: a gradient boosting machine", 2001) needs far fewer outputs of the encrypted layer:
columns of Z start at zero and are trained one stage after the other. In each stage the active party trains what it has
without any message; one pass gives the gradient of the stage's columns, with nothing released, and steps their weights;
then these columns of Z are released once for every row, with noise, and kept. Frozen bottoms only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from vfl.ids import Batch, Split
from vfl.job.config import JobConfig


class EpochKind(StrEnum):
    """What an epoch does with every training row."""

    JOINT = "joint"
    """Steps of the whole model."""
    LOCAL = "local"
    """Steps of what the active party has, on kept outputs."""
    GRADIENT = "gradient"
    """One step of the weights of some columns of Z."""
    RELEASE = "release"
    """Some columns of noisy Z are given to the active party, which keeps them."""


@dataclass(frozen=True, slots=True)
class PlannedEpoch:
    """One epoch.

    Attributes:
        columns: of Z that take part; none in a local epoch.
    """

    kind: EpochKind
    columns: slice


class Plan:
    """The epochs of a job.

    Attributes:
        epochs: in their order; ``Batch.epoch`` counts them.
        width: K, the width of Z.
    """

    def __init__(self, job: JobConfig) -> None:
        self.width = job.interaction_width
        self._all = slice(0, self.width)
        local = [PlannedEpoch(EpochKind.LOCAL, slice(0, 0))]
        epochs: list[PlannedEpoch] = []
        if job.stagewise:
            count = self.width // job.passes
            for first in range(0, self.width, count):
                columns = slice(first, first + count)
                epochs += job.stage_epochs * local
                epochs += [PlannedEpoch(EpochKind.GRADIENT, columns), PlannedEpoch(EpochKind.RELEASE, columns)]
        else:
            epochs += job.passes * [PlannedEpoch(EpochKind.JOINT, self._all)]
            if job.local_epochs:
                epochs.append(PlannedEpoch(EpochKind.RELEASE, self._all))
        self.epochs = (*epochs, *(job.local_epochs * local))

    def kind(self, batch: Batch) -> EpochKind | None:
        """What is done with a batch; None for one that is only evaluated."""
        if batch.split is Split.TEST or not 0 <= batch.epoch < len(self.epochs):
            return None
        kind = self.epochs[batch.epoch].kind
        return kind if batch.split is Split.TRAIN or kind is EpochKind.RELEASE else None

    def columns(self, batch: Batch) -> slice:
        """The columns of Z that a batch is about."""
        return self._all if self.kind(batch) is None else self.epochs[batch.epoch].columns

    def scores_kept(self, batch: Batch) -> bool:
        """Whether the rows of this batch's split are scored on kept outputs: validation rows after a local epoch."""
        return batch.split is Split.VALIDATION and self.epochs[batch.epoch].kind is EpochKind.LOCAL

    def counted(self, number: int) -> int:
        """How many epochs that train something come before this one."""
        return sum(epoch.kind is not EpochKind.RELEASE for epoch in self.epochs[:number])

    def local_run(self, number: int) -> tuple[int, int]:
        """First of the consecutive local epochs to which this one belongs, and how many they are."""
        first = last = number
        while first and self.epochs[first - 1].kind is EpochKind.LOCAL:
            first -= 1
        while last + 1 < len(self.epochs) and self.epochs[last + 1].kind is EpochKind.LOCAL:
            last += 1
        return first, last + 1 - first

    @property
    def epochs_of_active(self) -> int:
        """Epochs in which the active party's own part takes steps."""
        return sum(epoch.kind in (EpochKind.LOCAL, EpochKind.JOINT) for epoch in self.epochs)

    @property
    def first_local_of_last_run(self) -> int | None:
        """Number of the first of the local epochs after the last pass; None if there are none."""
        last = len(self.epochs) - 1
        return self.local_run(last)[0] if self.epochs[last].kind is EpochKind.LOCAL else None

    @property
    def counted_epochs(self) -> int:
        """Epochs that train something."""
        return sum(epoch.kind is not EpochKind.RELEASE for epoch in self.epochs)
