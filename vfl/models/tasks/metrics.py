"""Metrics of a scored split, by torchmetrics. An undefined metric (a single class, no rows) is NaN, without a warning.

Everything is computed in float64, so confident logits do not tie after the sigmoid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics.functional import mean_absolute_error, mean_squared_error, r2_score
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_average_precision,
    binary_roc,
    multiclass_accuracy,
)

Metrics = dict[str, float]


def binary_metrics(logits_B: Tensor, labels_B: Tensor) -> Metrics:
    """Area under the ROC curve, average precision, Kolmogorov-Smirnov distance, accuracy at 0.5, mean log loss.

    Args:
        logits_B: (B,) log odds of class 1.
        labels_B: (B,) 0 or 1.
    """
    logits, labels = logits_B.double(), labels_B.long()
    score = torch.sigmoid(logits)
    log_loss = functional.binary_cross_entropy_with_logits(logits, labels.double())
    ranking = {"auc": math.nan, "average_precision": math.nan, "ks": math.nan}
    if 0 < int(labels.sum()) < len(labels):
        false_rate, true_rate, _ = binary_roc(score, labels)
        ranking = {
            "auc": binary_auroc(score, labels).item(),
            "average_precision": binary_average_precision(score, labels).item(),
            "ks": (true_rate - false_rate).abs().max().item(),
        }
    accuracy = binary_accuracy(score, labels).item() if len(labels) else math.nan
    return {**ranking, "accuracy": accuracy, "log_loss": log_loss.item()}


def multiclass_metrics(logits_BC: Tensor, labels_B: Tensor) -> Metrics:
    """Accuracy, mean log loss, and the one-vs-rest area under the ROC curve averaged over the classes that occur.

    Args:
        logits_BC: (B, C).
        labels_B: (B,) 0..C-1.
    """
    logits, labels = logits_BC.double(), labels_B.long()
    classes = logits.shape[1]
    score = torch.softmax(logits, dim=1)
    accuracy = multiclass_accuracy(score, labels, classes, average="micro").item() if len(labels) else math.nan
    counts = torch.bincount(labels, minlength=classes)
    occurring = [number for number, count in enumerate(counts.tolist()) if 0 < count < len(labels)]
    areas = [binary_auroc(score[:, number], (labels == number).long()).item() for number in occurring]
    macro_auc = math.fsum(areas) / len(areas) if areas else math.nan
    return {"accuracy": accuracy, "macro_auc": macro_auc, "log_loss": functional.cross_entropy(logits, labels).item()}


def regression_metrics(predicted_B: Tensor, labels_B: Tensor) -> Metrics:
    """Root mean squared error, mean absolute error, coefficient of determination; (B,) each, in the same unit."""
    predicted, labels = predicted_B.double(), labels_B.double()
    if not len(labels):
        return {"rmse": math.nan, "mae": math.nan, "r2": math.nan}
    spread = bool(labels.amax() > labels.amin())
    return {
        "rmse": mean_squared_error(predicted, labels, squared=False).item(),
        "mae": mean_absolute_error(predicted, labels).item(),
        "r2": r2_score(predicted, labels).item() if spread else math.nan,
    }
