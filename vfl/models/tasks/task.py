"""Tasks: what is predicted, the loss whose gradient starts the backward pass, and how a split is scored.

The gradient of the loss with respect to the logits is bounded per sample (``gradient_bound``, L2). Times the top's
Lipschitz constant, it bounds dL/dZ, and so what the passive parties' gradients can reveal about one label.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from vfl.errors import DataError, ModelError
from vfl.models.config import TaskConfig
from vfl.models.tasks.class_order import AS_THEY_ARE, ClassOrder, Labels, shown
from vfl.models.tasks.labels import CountEncoding, LabelEncoding, ScaleEncoding, clean_labels, expected, fit_labels
from vfl.models.tasks.metrics import Metrics, binary_metrics, multiclass_metrics, regression_metrics


class Task(ABC):
    """One task; create it with ``make_task``.

    Attributes:
        config: the configuration it was created from.
        out_width: number of logits per row.
        primary_metric: name of the metric that reports put first; higher is better.
        gradient_bound: largest L2 norm of dL/dlogits of one sample as it is used for the interaction weights.
    """

    def __init__(self, config: TaskConfig) -> None:
        self.config = config
        self.out_width = config.classes or 1
        self.primary_metric = config.primary_metric
        self.gradient_bound = config.gradient_bound

    @abstractmethod
    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each row, not averaged.

        Args:
            logits: (B, out).
            labels: (B,) encoded labels.

        Returns:
            (B,).

        Raises:
            ModelError: the shapes do not match.
        """

    @abstractmethod
    def metrics(self, logits: Tensor, labels: Tensor, encoding: LabelEncoding | None = None) -> Metrics:
        """Metrics of a whole split by name; NaN if one is undefined, such as the AUC of a single class.

        Args:
            logits: (B, out).
            labels: (B,) encoded labels.
            encoding: the task's label encoding; if given, regression errors are in the labels' own unit.
        """

    def fit_labels(self, labels: Labels, order: ClassOrder = AS_THEY_ARE) -> LabelEncoding:
        """Fit the label encoding on the raw labels (B,) of the training part; see ``labels.fit_labels``."""
        return fit_labels(self.config, labels, order)

    def check_labels(self, labels: Labels) -> None:
        """Refuse labels (B,) that the loss cannot take without an encoding.

        Raises:
            DataError: not integers 0..classes-1, or not finite numbers for a regression.
        """
        clean = clean_labels(labels)
        distinct = np.unique(clean)
        if clean.dtype.kind == "i" and np.isin(distinct, range(self.config.class_count)).all():
            return
        raise DataError(
            f"the labels do not fit the {self.config.kind} task as they are",
            detail=f"expected integers 0 to {self.config.class_count - 1}, {shown(distinct)}",
            remedy=self._label_remedy(distinct),
        )

    def _label_remedy(self, distinct: Labels) -> str:
        if len(distinct) > self.config.class_count:
            return "set kind and classes in [task] of job.toml to match the label column, or correct the column"
        if distinct.dtype.kind == "i" and distinct[0] == 1 and distinct[-1] == self.config.class_count:
            return "the labels count from 1: subtract 1, or encode them with fit_labels"
        return "encode the labels with fit_labels, which numbers the sorted distinct values from 0"

    def _check_shapes(self, logits: Tensor, labels: Tensor) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.out_width or labels.shape != logits.shape[:1]:
            raise ModelError(
                "logits and labels do not match",
                detail=f"expected logits (rows, {self.out_width}) and labels (rows,), got {tuple(logits.shape)} and "
                f"{tuple(labels.shape)}",
                remedy=f"give the top model {self.out_width} output(s), and pass one label per row",
            )


class BinaryTask(Task):
    """Two classes, one logit, logistic loss; dL/dlogit = sigmoid(logit) - label lies in [-1, 1]."""

    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, 1) and (B,) to (B,)."""
        self._check_shapes(logits, labels)
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), labels.to(logits.dtype), reduction="none")

    def metrics(self, logits: Tensor, labels: Tensor, encoding: LabelEncoding | None = None) -> Metrics:
        """auc, average_precision, ks, accuracy, log_loss."""
        self._check_shapes(logits, labels)
        return binary_metrics(logits.detach().squeeze(1), labels)


class MulticlassTask(Task):
    """C classes, C logits, cross entropy; dL/dlogits = softmax - one-hot has norm at most sqrt(2)."""

    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, C) and (B,) to (B,)."""
        self._check_shapes(logits, labels)
        return functional.cross_entropy(logits, labels.long(), reduction="none")

    def metrics(self, logits: Tensor, labels: Tensor, encoding: LabelEncoding | None = None) -> Metrics:
        """accuracy, macro_auc, log_loss."""
        self._check_shapes(logits, labels)
        return multiclass_metrics(logits.detach(), labels)


class RegressionTask(Task):
    """One value. Huber loss (delta 1) has |dL/dlogit| <= 1; the others have no bound of their own, and what leaves the
    active party is cut off at ``config.CUT_OFF``."""

    def loss_per_sample(self, logits: Tensor, labels: Tensor) -> Tensor:
        """(B, 1) and (B,) to (B,); half the squared error where Huber is quadratic, the full square for 'mse'."""
        self._check_shapes(logits, labels)
        actual = labels.to(logits.dtype)
        match self.config.loss:
            case "poisson":
                # Half the deviance: 0 for an exact prediction, never less.
                at_best = torch.xlogy(actual, actual) - actual
                return expected(logits.squeeze(1)) - actual * logits.squeeze(1) + at_best
            case "mse":
                return functional.mse_loss(logits.squeeze(1), actual, reduction="none")
        return functional.huber_loss(logits.squeeze(1), actual, reduction="none")

    def metrics(self, logits: Tensor, labels: Tensor, encoding: LabelEncoding | None = None) -> Metrics:
        """rmse, mae, r2, in the labels' own unit if ``encoding`` is given."""
        self._check_shapes(logits, labels)
        predicted, actual = logits.detach().squeeze(1).double(), labels.double()
        if isinstance(encoding, ScaleEncoding):
            predicted, actual = encoding.decode(predicted), encoding.decode(actual)
        elif isinstance(encoding, CountEncoding):
            predicted, actual = encoding.decode(predicted), actual * encoding.mean
        return regression_metrics(predicted, actual)

    def check_labels(self, labels: Labels) -> None:
        """Refuse labels (B,) that are not finite numbers."""
        ScaleEncoding(mean=0.0, std=1.0).encode(labels)


_TASKS: dict[str, type[Task]] = {"binary": BinaryTask, "multiclass": MulticlassTask, "regression": RegressionTask}


def make_task(config: TaskConfig) -> Task:
    """The task that ``config`` describes."""
    return _TASKS[config.kind](config)
