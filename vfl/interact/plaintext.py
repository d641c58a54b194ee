"""The plaintext protocol: the same fixed-point arithmetic in the clear, for tests and jobs that select it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import InteractionShape, initial_weights, restore_side, side_state
from vfl.interact.weights import Kernel, WeightShare
from vfl.messages import ClearActivationGradient, ClearActivations, ClearWeights, GradientCommitment
from vfl.messages.exchange import Exchange, Send, check_shape, receive
from vfl.privacy.releases import Releases

_FORWARD, _BACKWARD = 0, 1
"""Parts of the message that carries activations, one for each direction."""


class PlaintextActive:
    """Active side: holds W_i in the clear and sees alpha_i.

    Args:
        releases: this side's noise on d alpha.
    """

    def __init__(self, shape: InteractionShape, parameters: Parameters, releases: Releases) -> None:
        self._shape = shape
        self._parameters = parameters
        self._releases = releases
        self._weights = {
            name: WeightShare(np.zeros((width, shape.out_width), dtype=np.int64), parameters.tau)
            for name, width in shape.widths.items()
        }

    def setup(self) -> Exchange[None]:
        """Take each passive party's initial weights."""
        for name, weights in self._weights.items():
            message = yield from receive(name, ClearWeights)
            check_shape(message.w_DK.shape, weights.value.shape, name, "initial weights")
            weights.value = message.w_DK

    def forward(self, key: StepKey, rows: int, columns: slice) -> Exchange[IntArray]:
        """See ``ActiveInteraction.forward``."""
        z_BK = np.zeros((rows, columns.stop - columns.start), dtype=np.int64)
        for name, weights in self._weights.items():
            message = yield from self._activations(name, rows, z_BK.shape[1], _FORWARD)
            z_BK += message.alpha_q_BD @ weights.value[:, columns] + message.noise_z_BK
        return center(z_BK, self._parameters.tau)

    def backward(
        self, key: StepKey, d_z_BM: IntArray, labels: Mapping[str, Sequence[bytes]], columns: slice
    ) -> Exchange[None]:
        """See ``ActiveInteraction.backward``."""
        committed = self._releases.commit(key, d_z_BM)
        yield Send(self._shape.passive, GradientCommitment(np.frombuffer(committed, dtype=np.uint8)))
        settings = self._parameters.settings
        for name, weights in self._weights.items():
            alpha_q_BD = (yield from self._activations(name, d_z_BM.shape[0], 0, _BACKWARD)).alpha_q_BD
            if name in self._shape.gradient_receivers:
                bits = settings.gradient_bits + settings.weight_bits
                noise_BD = self._releases.noise(labels[name], alpha_q_BD.shape[1], bits)
                d_alpha_BD = center(d_z_BM @ weights.value[:, columns].T + noise_BD, self._parameters.tau)
                yield Send((name,), ClearActivationGradient(d_alpha_BD))
            weights.accumulate(alpha_q_BD.T @ d_z_BM, d_z_BM.shape[0], columns)
        self._releases.move_to(self._releases.after_step(key, committed))

    def step(self, kernel: Kernel) -> None:
        """See ``ActiveInteraction.step``."""
        for weights in self._weights.values():
            weights.step(kernel)

    def _activations(self, name: str, rows: int, noise_width: int, part: int) -> Exchange[ClearActivations]:
        message = yield from receive(name, ClearActivations, part)
        check_shape(message.alpha_q_BD.shape, (rows, self._shape.widths[name]), name, "activations")
        check_shape(message.noise_z_BK.shape, (rows, noise_width), name, "noise")
        return message

    def shares(self) -> dict[str, IntArray]:
        """W_i of every passive party."""
        return {name: weights.value for name, weights in self._weights.items()}

    def state(self) -> dict[str, IntArray]:
        """See ``ActiveInteraction.state``."""
        return side_state(self._weights, self._releases)

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """See ``ActiveInteraction.restore``."""
        restore_side(self._weights, self._releases, state)


class PlaintextPassive:
    """Passive side: sends alpha in the clear and holds no weights.

    Args:
        releases: this side's noise on Z.
    """

    def __init__(
        self,
        name: str,
        shape: InteractionShape,
        parameters: Parameters,
        generator: np.random.Generator,
        releases: Releases,
    ) -> None:
        self._name = name
        self._shape = shape
        self._parameters = parameters
        self._releases = releases
        self._initial = initial_weights(shape.widths[name], shape, parameters, generator)

    def setup(self) -> Exchange[None]:
        """Send the initial weights."""
        self._releases.contributed(self._initial)
        yield Send((self._shape.active,), ClearWeights(self._initial))

    def forward(self, key: StepKey, alpha_q_BD: IntArray, labels: Sequence[bytes], columns: slice) -> Exchange[None]:
        """See ``PassiveInteraction.forward``."""
        settings = self._parameters.settings
        bits = settings.activation_bits + settings.weight_bits
        noise_z_BK = self._releases.noise(labels, columns.stop - columns.start, bits)
        yield Send((self._shape.active,), ClearActivations(alpha_q_BD, noise_z_BK), _FORWARD)

    def backward(self, key: StepKey, alpha_q_BD: IntArray, columns: slice) -> Exchange[IntArray | None]:
        """See ``PassiveInteraction.backward``."""
        active = self._shape.active
        committed = (yield from receive(active, GradientCommitment)).digest.tobytes()
        lineage = self._releases.after_step(key, committed)
        no_noise = np.zeros((alpha_q_BD.shape[0], 0), dtype=np.int64)
        yield Send((active,), ClearActivations(alpha_q_BD, no_noise), _BACKWARD)
        d_alpha_BD = None
        if self._name in self._shape.gradient_receivers:
            message = yield from receive(active, ClearActivationGradient)
            check_shape(message.d_alpha_BD.shape, alpha_q_BD.shape, active, "activation gradients")
            d_alpha_BD = message.d_alpha_BD
        self._releases.contributed(alpha_q_BD)
        self._releases.move_to(lineage)
        return d_alpha_BD

    def step(self, kernel: Kernel) -> None:
        """Nothing: the active party holds the weights."""

    def shares(self) -> dict[str, IntArray]:
        """Nothing: the active party holds the weights."""
        return {}

    def state(self) -> dict[str, IntArray]:
        """See ``PassiveInteraction.state``."""
        return side_state({}, self._releases)

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """See ``PassiveInteraction.restore``."""
        restore_side({}, self._releases, state)
