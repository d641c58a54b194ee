"""What the active party does by itself in a job: local epochs, metrics, and a model of its own to compare with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from vfl.ids import Batch, Split
from vfl.job.best_epoch import BestSoFar
from vfl.models.arithmetic import model_arithmetic
from vfl.models.config import ALONE
from vfl.party.learning.alone import train_alone
from vfl.party.learning.best_epoch import BestEpoch
from vfl.party.learning.epoch_history import EpochHistory
from vfl.party.learning.local_epoch import local_batches
from vfl.party.learning.outputs.kept import KeptOutputs
from vfl.party.learning.own_model import OwnModel
from vfl.party.learning.top import TopTrainer
from vfl.party.roles.common import PartyContext
from vfl.party.roles.run_report import BestEpochFound, RunReport, report_of
from vfl.runtime.logs import get_logger

METRIC_DECIMALS = 4
"""Metrics leave this party rounded: exact ones of few rows tell labels."""

_HISTORY = "history"
_DRAWS = "layers that draw at random"
_log = get_logger("vfl.party")


class LocalTraining:
    """Local epochs and scores of one attempt.

    Args:
        own: what is trained, with the outputs that this party keeps.
        make_upper: makes a top model as in the beginning, for bottoms of this total width.
        best_pass: the best joint pass so far, for which the scores of joint passes are considered.
    """

    def __init__(
        self, state: PartyContext, own: OwnModel, make_upper: Callable[[int], TopTrainer], best_pass: BestSoFar
    ) -> None:
        self._state = state
        self._own = own
        self._make_upper = make_upper
        self._best_pass = best_pass
        job = state.setup.job
        self._metric = own.upper.task.primary_metric
        self._best = BestEpoch(own, self._metric, job.training.patience) if job.keeps_best else None
        self._history = EpochHistory()
        self._test: dict[str, float] = {}
        self._alone: dict[str, float] = {}

    def warn_of_absent_classes(self) -> None:
        """Name the classes of the task that no training row has."""
        labels = self._own.labels_of(self._state.dataset.rows_of(Split.TRAIN))
        if absent := self._own.upper.absent_classes(labels):
            _log.warning("classes of the job do not occur in the training part", classes=", ".join(absent))

    def epoch(self, batch: Batch) -> float:
        """One epoch of everything that this party has, on the outputs that it keeps; the mean loss.

        The order of the rows is this party's own.
        """
        state, dataset = self._state, self._state.dataset
        if self._best is not None and self._best.patience_is_over:
            return self._best.loss
        order = state.generator("local epoch", batch.epoch).permutation(dataset.batch_rows(batch))
        batches = local_batches(dataset.plan, batch.epoch, order, state.setup.job.training.batch_size)
        loss = self._own.epoch(batches, lambda at: state.seed(f"{_DRAWS}, local epoch {batch.epoch}, batch {at}"))
        if self._best is not None:
            self._best.loss = loss
        return loss

    def score(self, batch: Batch) -> dict[str, float]:
        """Metrics of all batches scored since the last call, or of kept outputs; on test rows also those of this party
        alone, under names of their own."""
        kept = self._state.dataset.plan.scores_kept(batch)
        metrics = self._own.score(batch.split) if kept else self._own.upper.metrics()
        if undefined := sorted(name for name, value in metrics.items() if math.isnan(value)):
            _log.warning(
                "metrics are undefined and left out: do the labels of this split differ?",
                split=str(batch.split),
                metrics=", ".join(undefined),
            )
        published = _published(metrics)
        if batch.split is Split.VALIDATION:
            self._history.scored(self._number(batch.epoch), published)
        if kept:
            self._consider(batch.epoch, published)
        if batch.split is not Split.TEST:
            if not kept:
                self._best_pass.consider(batch.epoch, published)
            return published
        self._test, self._alone = published, self._train_alone()
        return self._test | {f"{ALONE}{name}": value for name, value in self._alone.items()}

    def report(self, run: str) -> RunReport:
        """What this party keeps for people to read."""
        best_pass, best_epoch = self._found(self._best_pass), self._found(self._best)
        kept = [found.epoch for found in (best_pass, best_epoch) if found is not None]
        return report_of(
            self._state,
            run,
            test=self._test,
            alone=self._alone,
            best_pass=best_pass,
            best_epoch=best_epoch or best_pass,
            history=self._history.records(kept),
        )

    def trained(self, batch: Batch, loss: float) -> None:
        """Note the loss of a training step as it is published."""
        self._history.trained(self._number(batch.epoch), loss)

    def facts(self) -> dict[str, str]:
        """What a checkpoint needs beside tensors."""
        return {_HISTORY: self._history.to_json()}

    def load_facts(self, facts: Mapping[str, str]) -> None:
        """Continue from what ``facts`` returned."""
        if _HISTORY in facts:
            self._history.load_json(facts[_HISTORY])

    def _number(self, epoch: int) -> int:
        """Of an epoch for people, who count from 1 and only those that train something."""
        return self._state.dataset.plan.counted(epoch) + 1

    def _found(self, best: BestSoFar | None) -> BestEpochFound | None:
        if best is None or best.epoch is None:
            return None
        return BestEpochFound(self._number(best.epoch), self._metric, best.score)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint needs beside the model and the outputs."""
        return {} if self._best is None else self._best.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what ``state`` returned."""
        if self._best is not None:
            self._best.load_state(state)

    def _consider(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Compare local epochs after the last pass; after the last one, go back to the best."""
        plan = self._state.dataset.plan
        first = plan.first_local_of_last_run
        if self._best is None or first is None or epoch < first:
            return
        self._best.consider(epoch, metrics)
        if epoch == len(plan.epochs) - 1:
            self._best.restore()

    @model_arithmetic()
    def _train_alone(self) -> dict[str, float]:
        """Metrics of a model of the same kind on this party's own columns; none without any, or if it is not to be."""
        state, job = self._state, self._state.setup.job
        if state.bottom is None or not state.setup.config.train_alone:
            return {}
        _log.info("training on this party's own columns, for comparison; train_alone = false leaves it out")
        kept = KeptOutputs(len(state.dataset), job.interaction_width)
        own = OwnModel(state.dataset, state.make_bottom(), self._make_upper(state.width), kept)
        metrics = train_alone(
            job,
            state.dataset,
            own,
            lambda epoch: state.generator("alone", epoch),
            lambda epoch, at: state.seed(f"{_DRAWS}, alone, epoch {epoch}, batch {at}"),
        )
        return _published(metrics)


def _published(metrics: Mapping[str, float]) -> dict[str, float]:
    """Rounded, and without those that are undefined."""
    return {name: round(value, METRIC_DECIMALS) for name, value in metrics.items() if not math.isnan(value)}
