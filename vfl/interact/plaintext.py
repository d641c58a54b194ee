"""The plaintext fixed-point oracle: the same arithmetic in the clear, for tests and jobs that select it explicitly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import InteractionShape, initial_weights, pending, restore_side, side_state
from vfl.interact.weights import Kernel, WeightShare
from vfl.messages import ClearActivationGradient, ClearActivations, ClearWeights, GradientCommitment
from vfl.messages.exchange import Exchange, Send, check_shape, receive
from vfl.privacy.releases import Releases


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
        self._alpha: dict[str, IntArray] = {}

    def setup(self) -> Exchange[None]:
        """Take each passive party's initial weights."""
        for name, weights in self._weights.items():
            message = yield from receive(name, ClearWeights)
            check_shape(message.w_DK.shape, weights.value.shape, name, "initial weights")
            weights.value = message.w_DK

    def forward(self, key: StepKey, rows: int) -> Exchange[IntArray]:
        """See ``ActiveInteraction.forward``."""
        z_BK = np.zeros((rows, self._shape.out_width), dtype=np.int64)
        for name, width in self._shape.widths.items():
            message = yield from receive(name, ClearActivations)
            check_shape(message.alpha_q_BD.shape, (rows, width), name, "activations")
            check_shape(message.noise_z_BK.shape, z_BK.shape, name, "noise")
            self._alpha[name] = message.alpha_q_BD
            z_BK += message.alpha_q_BD @ self._weights[name].value + message.noise_z_BK
        return center(z_BK, self._parameters.tau)

    def backward(self, key: StepKey, d_z_BK: IntArray, row_ids: Sequence[bytes], kernel: Kernel) -> Exchange[None]:
        """See ``ActiveInteraction.backward``."""
        committed = self._releases.commit(key, d_z_BK)
        yield Send(self._shape.passive, GradientCommitment(np.frombuffer(committed, dtype=np.uint8)))
        settings = self._parameters.settings
        for name in self._shape.passive:
            alpha_q_BD = pending(self._alpha.pop(name, None), key)
            weights = self._weights[name]
            if name in self._shape.gradient_receivers:
                labels = self._releases.labels(name, row_ids, d_z_BK)
                bits = settings.gradient_bits + settings.weight_bits
                noise_BD = self._releases.noise(labels, alpha_q_BD.shape[1], bits)
                d_alpha_BD = center(d_z_BK @ weights.value.T + noise_BD, self._parameters.tau)
                yield Send((name,), ClearActivationGradient(d_alpha_BD))
            self._weights[name] = weights.stepped(alpha_q_BD.T @ d_z_BK, d_z_BK.shape[0], kernel)
        self._releases.move_to(self._releases.after_step(key, committed))

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
        self._alpha_shape: tuple[int, ...] = ()

    def setup(self) -> Exchange[None]:
        """Send the initial weights."""
        yield Send((self._shape.active,), ClearWeights(self._initial))

    def labels(self, row_ids: Sequence[bytes], alpha_q_BD: IntArray) -> list[bytes]:
        """See ``PassiveInteraction.labels``."""
        return self._releases.labels(self._shape.active, row_ids, alpha_q_BD)

    def forward(self, key: StepKey, alpha_q_BD: IntArray, labels: Sequence[bytes]) -> Exchange[None]:
        """See ``PassiveInteraction.forward``."""
        self._alpha_shape = alpha_q_BD.shape
        settings = self._parameters.settings
        bits = settings.activation_bits + settings.weight_bits
        noise_z_BK = self._releases.noise(labels, self._shape.out_width, bits)
        yield Send((self._shape.active,), ClearActivations(alpha_q_BD, noise_z_BK))

    def backward(self, key: StepKey, kernel: Kernel) -> Exchange[IntArray | None]:
        """See ``PassiveInteraction.backward``."""
        active = self._shape.active
        committed = (yield from receive(active, GradientCommitment)).digest.tobytes()
        lineage = self._releases.after_step(key, committed)
        d_alpha_BD = None
        if self._name in self._shape.gradient_receivers:
            message = yield from receive(active, ClearActivationGradient)
            check_shape(message.d_alpha_BD.shape, self._alpha_shape, active, "activation gradients")
            d_alpha_BD = message.d_alpha_BD
        self._releases.move_to(lineage)
        return d_alpha_BD

    def shares(self) -> dict[str, IntArray]:
        """Nothing: the active party holds the weights."""
        return {}

    def state(self) -> dict[str, IntArray]:
        """See ``PassiveInteraction.state``."""
        return side_state({}, self._releases)

    def restore(self, state: Mapping[str, IntArray]) -> None:
        """See ``PassiveInteraction.restore``."""
        restore_side({}, self._releases, state)
