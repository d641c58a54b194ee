"""The interface of the interaction layer: two implementations, with one object for each side.

Z = sum_i alpha_i W_i over the passive parties i, in exact fixed-point arithmetic. The active party's own part and the
bias are plain and local, and not part of it. Both implementations produce the same integers, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vfl.errors import CheckpointError
from vfl.he.layout import LINK_MBIT, BackwardLayout, ProductLayout, plan_backward, plan_product
from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, quantize_weights
from vfl.interact.weights import Kernel, WeightShare
from vfl.messages.exchange import Exchange
from vfl.privacy.lineage import DIGEST_BYTES
from vfl.privacy.releases import Releases


@dataclass(frozen=True)
class InteractionShape:
    """What every party knows about the layer.

    Attributes:
        active: name of the active party.
        widths: bottom width d_i of each passive party, in the order of the federation.
        out_width: width K of Z.
        own_width: bottom width of the active party (0 without features); counts for the scale of initial weights.
        gradient_receivers: passive parties whose bottoms train and therefore need d alpha.
        stagewise: columns of Z are trained one pass after the other, from zero.
        link_mbit: speed of the connections between parties in Mbit/s, for the choice of layouts.
    """

    active: str
    widths: Mapping[str, int]
    out_width: int
    own_width: int
    gradient_receivers: frozenset[str]
    stagewise: bool = False
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

    def forward_layout(self, name: str, rows: int, columns: int, parameters: Parameters) -> ProductLayout:
        """How alpha and ``columns`` columns of Z of a party are packed; both sides derive the same layout."""
        return plan_product(rows, self.widths[name], columns, parameters.degree, self.link_mbit)

    def backward_layout(self, rows: int, columns: int, parameters: Parameters) -> BackwardLayout:
        """How dL/dZ of a batch, by ``columns`` columns, is packed; all parties derive the same layout."""
        widths = tuple(self.widths.values())
        return plan_backward(rows, columns, widths, self.gradient_widths, parameters.degree, self.link_mbit)


class ActiveInteraction(Protocol):
    """The active party's side."""

    def setup(self) -> Exchange[None]:
        """Receive this side's part of the initial weights of every passive party."""

    def forward(self, key: StepKey, rows: int, columns: slice) -> Exchange[IntArray]:
        """Return noisy Z = sum_i (alpha_i W_i + e_i) (B, M) by M columns of W, at f_a + f_w fractional bits."""

    def backward(
        self, key: StepKey, d_z_BM: IntArray, labels: Mapping[str, Sequence[bytes]], columns: slice
    ) -> Exchange[None]:
        """Give each passive party that trains its noisy d alpha; accumulate the gradient of these columns of W.

        Args:
            labels: release labels of each gradient receiver's d alpha (B), for the noise.
        """

    def step(self, kernel: Kernel) -> None:
        """Step the weights by what was accumulated, with the public factors of this and earlier gradients."""

    def shares(self) -> dict[str, IntArray]:
        """This side's part of each passive party's weights (D, K), to be saved."""

    def state(self) -> dict[str, IntArray]:
        """Everything that steps change, for a checkpoint."""

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """Continue from what ``state`` returned, instead of ``setup``; raises CheckpointError if it does not match."""


class PassiveInteraction(Protocol):
    """A passive party's side."""

    def setup(self) -> Exchange[None]:
        """Choose the initial weights and give the active party its part."""

    def forward(self, key: StepKey, alpha_q_BD: IntArray, labels: Sequence[bytes], columns: slice) -> Exchange[None]:
        """Contribute alpha (B, D), at f_a fractional bits, to Z, with the noise of these release labels."""

    def backward(self, key: StepKey, alpha_q_BD: IntArray, columns: slice) -> Exchange[IntArray | None]:
        """Accumulate the gradient of these columns of W.

        Returns:
            Noisy d alpha (B, D) at f_d + f_w fractional bits; None for a frozen bottom.
        """

    def step(self, kernel: Kernel) -> None:
        """Step the weights by what was accumulated, with the public factors of this and earlier gradients."""

    def shares(self) -> dict[str, IntArray]:
        """This side's part of its weights (D, K), to be saved."""

    def state(self) -> dict[str, IntArray]:
        """Everything that steps change, for a checkpoint."""

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """Continue from what ``state`` returned, instead of ``setup``; raises CheckpointError if it does not match."""


def initial_weights(
    width: int, shape: InteractionShape, parameters: Parameters, generator: np.random.Generator
) -> IntArray:
    """A passive party's initial weights (width, K). The active party contributes nothing that it would know.

    In stagewise training they are zero: the gradient of a column's pass is then that of a model without the column, and
    no Z has to be released for it.
    """
    if shape.stagewise:
        return np.zeros((width, shape.out_width), dtype=np.int64)
    return quantize_weights(generator.normal(0.0, shape.weight_scale, (width, shape.out_width)), parameters)


LINEAGE = "lineage"
"""Name of the hash chain's head in a side's state."""
HISTORY = "history"
"""Name of the head of this side's own hash chain in its state."""


def side_state(weights: Mapping[str, WeightShare], releases: Releases) -> dict[str, IntArray]:
    """What a side saves in a checkpoint: its weights by party, the lineage of the run, and its own history."""
    heads = {LINEAGE: releases.lineage, HISTORY: releases.history}
    named = {f"{name}.{part}": value for name, share in weights.items() for part, value in share.state().items()}
    return {name: np.frombuffer(head, dtype=np.uint8).astype(np.int64) for name, head in heads.items()} | named


def restore_side(weights: Mapping[str, WeightShare], releases: Releases, state: Mapping[str, IntArray]) -> None:
    """Continue from what ``side_state`` returned.

    Raises:
        CheckpointError: it belongs to other parties or has other shapes.
    """
    lineage, history = (state.get(name, np.empty(0, dtype=np.int64)) for name in (LINEAGE, HISTORY))
    parts = {name.rpartition(".")[0] for name in state if name not in (LINEAGE, HISTORY)}
    if {lineage.shape, history.shape} != {(DIGEST_BYTES,)} or parts != set(weights):
        raise CheckpointError(
            "the interaction weights of the checkpoint do not match the job", remedy="start a new run"
        )
    for name, share in weights.items():
        share.restore({key.rpartition(".")[2]: value for key, value in state.items() if key.rpartition(".")[0] == name})
    releases.move_to(*(head.astype(np.uint8).tobytes() for head in (lineage, history)))
