"""The Lipschitz-constrained top model: Z (B x K) to logits (B x out).

Linear layers whose singular values are all close to one, alternating with GroupSort2, keep gradients from vanishing at
a Lipschitz constant of one: Anil, Lucas, Grosse, "Sorting out Lipschitz function approximation", ICML 2019. The Björck
projection and the activation are deel-torchlip's. Its ``SpectralLinear`` is not used because it keeps running estimates
in buffers: every forward pass in training changes them, so a repeated step gives a different result, evaluation lags
one update behind, and a large update can make the projection diverge.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import cast

import torch
from deel.torchlip import GroupSort2
from deel.torchlip.normalizers import bjorck_normalization
from torch import Tensor, nn
from torch.nn.utils import parametrize, skip_init

from vfl.errors import ModelError
from vfl.models.config import TopConfig
from vfl.models.seeding import seeded

_FLOAT32_MARGIN = 4e-6
"""Each layer is shrunk by this fraction, more than the projection's float32 rounding, so no norm exceeds its target."""


class SpectralBjorck(nn.Module):
    """Parametrization that maps a weight to a nearby matrix with all singular values just under ``norm``.

    Dividing by the exact spectral norm brings the weight into the region where the Björck iteration converges and
    never exceeds one. There is no state: the result depends only on the weight, in training and in evaluation.
    """

    def __init__(self, norm: float) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, weight: Tensor) -> Tensor:
        """(out, in) to (out, in).

        Raises:
            ModelError: the weight is not finite.
        """
        if not torch.isfinite(weight).all():
            raise ModelError(
                "the top model's weights are no longer finite",
                remedy="lower the top model's learning rate in job.toml",
            )
        largest = torch.linalg.matrix_norm(weight, ord=2).clamp_min(torch.finfo(weight.dtype).tiny)
        projected: Tensor = bjorck_normalization(weight / largest)
        return projected * (self.norm * (1.0 - _FLOAT32_MARGIN))


class LipschitzTop(nn.Module):
    """Top model g with a Lipschitz constant (L2 to L2) of at most ``config.lipschitz``; build it with ``build``."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    @classmethod
    def build(cls, config: TopConfig, in_width: int, out_width: int, seed: int) -> LipschitzTop:
        """Build a top model on the CPU.

        Args:
            config: hidden widths and the Lipschitz constant, divided evenly among the layers.
            in_width: K.
            out_width: number of logits.
            seed: the same seed gives the same weights; torch's global generator is left unchanged.
        """
        if in_width and not config.hidden:
            return cls(nn.Sequential(_sum_by_logit(in_width, out_width, config.lipschitz)))
        widths = [in_width, *config.hidden, out_width]
        norm = config.lipschitz ** (1.0 / (len(widths) - 1))
        layers: list[nn.Module] = []
        with seeded(seed):
            for fan_in, fan_out in pairwise(widths):
                layers += [_linear(fan_in, fan_out, norm), GroupSort2()]
        return cls(nn.Sequential(*layers[:-1]))

    def forward(self, z_BK: Tensor) -> Tensor:
        """Interaction output (B, K) to logits (B, out), differentiable in ``z_BK``."""
        logits: Tensor = self.layers(z_BK)
        return logits

    def export(self) -> nn.Sequential:
        """A copy with plain ``nn.Linear`` layers that contain the effective weights; it computes the same logits."""
        return nn.Sequential(*(_plain(layer) for layer in self.layers))


def _linear(fan_in: int, fan_out: int, norm: float) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out)
    nn.init.orthogonal_(layer.weight)
    nn.init.zeros_(layer.bias)
    parametrize.register_parametrization(layer, "weight", SpectralBjorck(norm))
    return layer


def _sum_by_logit(fan_in: int, fan_out: int, norm: float) -> nn.Linear:
    """A linear top begins as the sum of the inputs of each logit, whose columns of Z come last and in their order.

    Stagewise training adds to the logits what the columns of Z are to each: with random signs it would take away.
    """
    layer = linear_without_init(fan_in, fan_out)
    with torch.no_grad():
        nn.init.zeros_(layer.bias)
        backwards = torch.arange(fan_in - 1, -1, -1)
        layer.weight.copy_(nn.functional.one_hot(fan_out - 1 - backwards % fan_out, fan_out).T)
    parametrize.register_parametrization(layer, "weight", SpectralBjorck(norm))
    return layer


def linear_without_init(fan_in: int, fan_out: int) -> nn.Linear:
    """A layer whose weights are set later: nothing is drawn from torch's generator, which the host program owns."""
    layer: nn.Linear = skip_init(nn.Linear, fan_in, fan_out)  # type: ignore[no-untyped-call]
    return layer


def _plain(layer: nn.Module) -> nn.Module:
    if not parametrize.is_parametrized(layer):
        return copy.deepcopy(layer)
    source = cast("nn.Linear", layer)
    plain = linear_without_init(source.in_features, source.out_features)
    with torch.no_grad():
        plain.weight.copy_(source.weight)
        plain.bias.copy_(source.bias)
    return plain
