"""The top model's Lipschitz constant, computed from its weights, and what it certifies about a prediction."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from deel.torchlip import GroupSort2
from torch import Tensor, nn

from vfl.errors import ModelError
from vfl.models.config import TaskConfig
from vfl.models.top import LipschitzTop

_SVD_MARGIN = 64.0 * torch.finfo(torch.float64).eps
"""Generous bound on the backward error of a float64 SVD, per row or column, relative to the largest singular value."""


def certified_lipschitz(top: LipschitzTop | nn.Sequential) -> float:
    """Upper bound of the Lipschitz constant (L2 to L2) of the exported top model.

    The product over its layers of the largest singular value of each effective weight, by SVD in float64, rounded up;
    the configured constant is not used. It bounds the map in real arithmetic, not the float32 rounding of individual
    logits.

    Raises:
        ModelError: the constant of a layer is unknown, or weights are not finite.
    """
    layers = top.export() if isinstance(top, LipschitzTop) else top
    bound = math.prod(_layer_bound(layer) for layer in layers)
    return bound * (1.0 + len(layers) * torch.finfo(torch.float64).eps)


def certified_radius(logits: Tensor, lipschitz: float, task: TaskConfig) -> Tensor:
    """Distance in Z (L2) within which the predicted class of a sample cannot change.

    Binary: ``|logit| / L``. Multiclass: ``(largest - second largest logit) / (sqrt(2) L)``, since a difference of two
    logits can change sqrt(2) times as fast as their vector. Tsuzuku, Sato, Sugiyama, "Lipschitz-Margin Training",
    NeurIPS 2018.

    Args:
        logits: (B, out).
        lipschitz: a bound L on the top model's constant, as from ``certified_lipschitz``.
        task: determines which formula applies.

    Returns:
        (B,) radii, zero where two classes tie.

    Raises:
        ModelError: the task is a regression, which has no classes.
    """
    if task.kind == "regression":
        raise ModelError(
            "a certified radius exists only for classification",
            remedy="request certified radii only for a binary or multiclass task",
        )
    if task.kind == "binary":
        return logits.squeeze(1).abs() / lipschitz
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return (first - second) / (math.sqrt(2.0) * lipschitz)


def _layer_bound(layer: nn.Module) -> float:
    # Exact types: a subclass or a parametrized layer may compute something other than its base.
    if type(layer) is GroupSort2 and cast("Any", layer).get_scaling() == 1.0:
        return 1.0
    if type(layer) is nn.Linear:
        return _spectral_norm(layer.weight)
    raise ModelError(
        "the top model contains a layer whose Lipschitz constant is not known",
        detail=f"layer type {type(layer).__name__}",
        remedy="build the top model from nn.Linear and GroupSort2 layers only",
    )


def _spectral_norm(weight: Tensor) -> float:
    if not torch.isfinite(weight).all():
        raise ModelError(
            "the top model's weights are not finite, so no Lipschitz constant can be certified",
            remedy="lower the top model's learning rate in job.toml",
        )
    largest: float = torch.linalg.svdvals(weight.detach().double().cpu())[0].item()
    return largest * (1.0 + _SVD_MARGIN * sum(weight.shape))
