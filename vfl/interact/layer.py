"""The interface of the interaction layer: two implementations, with one object for each side.

Z = sum_i alpha_i W_i over the passive parties i, in exact fixed-point arithmetic. The active party's own part and the
bias are plain and local, and not part of it. Both implementations produce the same integers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vfl.errors import CheckpointError, ProtocolError
from vfl.he.layout import LINK_MBIT, BackwardLayout, ProductLayout, plan_backward, plan_product
from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, quantize_weights
from vfl.messages.exchange import Exchange


@dataclass(frozen=True)
class InteractionShape:
    """What every party knows about the layer.

    Attributes:
        active: name of the active party.
        widths: bottom width d_i of each passive party, in the order of the federation.
        out_width: width K of Z.
        own_width: bottom width of the active party (0 without features); counts for the scale of initial weights.
        gradient_receivers: passive parties whose bottoms train and therefore need d alpha.
        link_mbit: speed of the connections between parties in Mbit/s, for the choice of layouts.
    """

    active: str
    widths: Mapping[str, int]
    out_width: int
    own_width: int
    gradient_receivers: frozenset[str]
    link_mbit: int = LINK_MBIT

    @property
    def passive(self) -> tuple[str, ...]:
        """Names of the passive parties."""
        return tuple(self.widths)

    @property
    def gradient_widths(self) -> tuple[int, ...]:
        """Widths of the passive parties that need d alpha."""
        return tuple(width for name, width in self.widths.items() if name in self.gradient_receivers)

    @property
    def weight_scale(self) -> float:
        """Standard deviation of initial interaction weights: 1 / sqrt(all bottom widths)."""
        return float((sum(self.widths.values()) + self.own_width) ** -0.5)

    def forward_layout(self, name: str, rows: int, parameters: Parameters) -> ProductLayout:
        """How alpha and Z of a party are packed; both sides derive the same layout."""
        return plan_product(rows, self.widths[name], self.out_width, parameters.degree, self.link_mbit)

    def backward_layout(self, rows: int, parameters: Parameters) -> BackwardLayout:
        """How dL/dZ of a batch is packed; all parties derive the same layout."""
        widths = tuple(self.widths.values())
        return plan_backward(rows, self.out_width, widths, self.gradient_widths, parameters.degree, self.link_mbit)


class ActiveInteraction(Protocol):
    """The active party's side."""

    def setup(self) -> Exchange[None]:
        """Agree on initial weights with every passive party."""

    def forward(self, key: StepKey, rows: int) -> Exchange[IntArray]:
        """Return sum_i alpha_i W_i (B, K), at f_a + f_w fractional bits."""

    def backward(self, key: StepKey, d_z_BK: IntArray, multiplier: int) -> Exchange[None]:
        """Give each passive party its d alpha and update W_i -= multiplier * alpha_i^T dL/dZ."""

    def shares(self) -> dict[str, IntArray]:
        """This side's part of each passive party's weights (D, K), to be saved."""

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """Continue from what ``shares`` returned, instead of ``setup``; raises CheckpointError if it does not match."""


class PassiveInteraction(Protocol):
    """A passive party's side."""

    def setup(self) -> Exchange[None]:
        """Agree on initial weights with the active party."""

    def forward(self, key: StepKey, alpha_q_BD: IntArray) -> Exchange[None]:
        """Contribute alpha (B, D), at f_a fractional bits, to Z."""

    def backward(self, key: StepKey, multiplier: int) -> Exchange[IntArray | None]:
        """Update the weights; return d alpha (B, D) at f_d + f_w fractional bits, None for a frozen bottom."""

    def shares(self) -> dict[str, IntArray]:
        """This side's part of its weights (D, K), to be saved."""

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """Continue from what ``shares`` returned, instead of ``setup``; raises CheckpointError if it does not match."""


def initial_contribution(
    width: int, shape: InteractionShape, parameters: Parameters, generator: np.random.Generator
) -> IntArray:
    """One side's contribution to initial weights (width, K). Two of them add up, so neither side knows the sum."""
    scale = shape.weight_scale / np.sqrt(2.0)
    return quantize_weights(generator.normal(0.0, scale, (width, shape.out_width)), parameters)


def restored(initial: Mapping[str, IntArray], held: Mapping[str, IntArray]) -> dict[str, IntArray]:
    """Weights of a checkpoint in place of initial ones (D, K).

    Raises:
        CheckpointError: they belong to other parties or have other shapes.
    """
    shapes = {name: weights.shape for name, weights in initial.items()}
    if shapes != {name: weights.shape for name, weights in held.items()}:
        raise CheckpointError("the interaction weights of the checkpoint do not match the job")
    return dict(held)


def pending(batch: IntArray | None, key: StepKey) -> IntArray:
    """The activations of the forward pass that a backward pass belongs to.

    Raises:
        ProtocolError: there was none.
    """
    if batch is None:
        raise ProtocolError(f"the backward pass of step {key.step} was requested before its forward pass")
    return batch
