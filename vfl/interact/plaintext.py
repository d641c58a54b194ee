"""The plaintext fixed-point oracle: the same arithmetic in the clear, for tests and jobs that select it explicitly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vfl.he.parameters import Parameters
from vfl.ids import StepKey
from vfl.interact.fixed_point import IntArray, center
from vfl.interact.layer import InteractionShape, initial_contribution, pending, restored
from vfl.messages import ClearActivationGradient, ClearActivations, ClearWeights
from vfl.messages.exchange import Exchange, Send, check_shape, receive


class PlaintextActive:
    """Active side: holds W_i in the clear and sees alpha_i."""

    def __init__(
        self, shape: InteractionShape, parameters: Parameters, generators: Mapping[str, np.random.Generator]
    ) -> None:
        self._shape = shape
        self._parameters = parameters
        self._weights = {
            name: initial_contribution(width, shape, parameters, generators[name])
            for name, width in shape.widths.items()
        }
        self._alpha: dict[str, IntArray] = {}

    def setup(self) -> Exchange[None]:
        """Add each passive party's contribution to the initial weights."""
        for name, width in self._shape.widths.items():
            message = yield from receive(name, ClearWeights)
            check_shape(message.w_DK.shape, (width, self._shape.out_width), name, "initial weights")
            self._weights[name] = center(self._weights[name] + message.w_DK, self._parameters.tau)

    def forward(self, key: StepKey, rows: int) -> Exchange[IntArray]:
        """See ``ActiveInteraction.forward``."""
        z_BK = np.zeros((rows, self._shape.out_width), dtype=np.int64)
        for name, width in self._shape.widths.items():
            message = yield from receive(name, ClearActivations)
            check_shape(message.alpha_q_BD.shape, (rows, width), name, "activations")
            self._alpha[name] = message.alpha_q_BD
            z_BK += message.alpha_q_BD @ self._weights[name]
        return center(z_BK, self._parameters.tau)

    def backward(self, key: StepKey, d_z_BK: IntArray, multiplier: int) -> Exchange[None]:
        """See ``ActiveInteraction.backward``."""
        for name in self._shape.passive:
            alpha_q_BD = pending(self._alpha.pop(name, None), key)
            if name in self._shape.gradient_receivers:
                d_alpha_BD = center(d_z_BK @ self._weights[name].T, self._parameters.tau)
                yield Send((name,), ClearActivationGradient(d_alpha_BD))
            step = multiplier * (alpha_q_BD.T @ d_z_BK)
            self._weights[name] = center(self._weights[name] - step, self._parameters.tau)

    def shares(self) -> dict[str, IntArray]:
        """W_i of every passive party."""
        return dict(self._weights)

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """See ``ActiveInteraction.restore``."""
        self._weights = restored(self._weights, held)


class PlaintextPassive:
    """Passive side: sends alpha in the clear and holds no weights."""

    def __init__(
        self, name: str, shape: InteractionShape, parameters: Parameters, generator: np.random.Generator
    ) -> None:
        self._name = name
        self._shape = shape
        self._parameters = parameters
        self._contribution = initial_contribution(shape.widths[name], shape, parameters, generator)
        self._alpha_shape: tuple[int, ...] = ()

    def setup(self) -> Exchange[None]:
        """Send the contribution to the initial weights."""
        yield Send((self._shape.active,), ClearWeights(self._contribution))

    def forward(self, key: StepKey, alpha_q_BD: IntArray) -> Exchange[None]:
        """See ``PassiveInteraction.forward``."""
        self._alpha_shape = alpha_q_BD.shape
        yield Send((self._shape.active,), ClearActivations(alpha_q_BD))

    def backward(self, key: StepKey, multiplier: int) -> Exchange[IntArray | None]:
        """See ``PassiveInteraction.backward``."""
        if self._name not in self._shape.gradient_receivers:
            return None
        message = yield from receive(self._shape.active, ClearActivationGradient)
        check_shape(message.d_alpha_BD.shape, self._alpha_shape, self._shape.active, "activation gradients")
        return message.d_alpha_BD

    def shares(self) -> dict[str, IntArray]:
        """Nothing: the active party holds the weights."""
        return {}

    def restore(self, held: Mapping[str, IntArray]) -> None:
        """See ``PassiveInteraction.restore``."""
        restored({}, held)
