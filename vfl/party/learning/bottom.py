"""A party's bottom model and its optimizer: forward pass now, backward pass when the gradient arrives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from vfl.data.preprocess import Features
from vfl.errors import ProtocolError
from vfl.job.tables import OptimizerConfig
from vfl.models.arithmetic import model_arithmetic
from vfl.models.bottoms import Bottom


def make_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer configured by the job or the party."""
    make = torch.optim.Adam if config.name == "adam" else torch.optim.SGD
    return make(list(parameters), lr=config.learning_rate, weight_decay=config.weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, share: float) -> None:
    """Let the next step have this share of the configured learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * share


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's state between steps, keyed ``{parameter index}.{name}``."""
    kept: dict[int, dict[str, Tensor | None]] = optimizer.state_dict()["state"]
    return {f"{at}.{name}": value for at, slots in kept.items() for name, value in slots.items() if value is not None}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Restore the state returned by ``optimizer_state``."""
    slots: dict[int, dict[str, Tensor]] = {}
    for key, value in state.items():
        at, _, name = key.partition(".")
        slots.setdefault(int(at), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under ``{prefix}.{name}``."""
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under a prefix added by ``prefixed``, with the prefix removed."""
    start = f"{prefix}."
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}


class BottomTrainer:
    """A bottom model in training.

    Args:
        bottom: the model, already on its device.
        name: the party, for errors.
        optimizer: how the model is trained; unused by a frozen bottom.
        device: the device that the model runs on.
    """

    def __init__(self, bottom: Bottom, name: str, optimizer: OptimizerConfig, device: str) -> None:
        self.bottom = bottom
        self._name = name
        self._device = device
        self._optimizer = make_optimizer(optimizer, bottom.parameters()) if bottom.trainable else None
        self._pending: Tensor | None = None

    def forward(self, features: Features, *, training: bool) -> Tensor:
        """alpha (B, D) for these rows, detached; in training, the graph is kept for ``backward``.

        Raises:
            ModelError: the output violates the bottom's contract, or a custom bottom raised.
        """
        self.bottom.train(training)
        with model_arithmetic(), torch.set_grad_enabled(training and self._optimizer is not None):
            alpha_BD = self.bottom(features.numeric.to(self._device), features.categorical.to(self._device))
        self.bottom.check_output(alpha_BD, self._name, rows=len(features))
        self._pending = alpha_BD if training else None
        detached: Tensor = alpha_BD.detach()
        return detached

    def backward(self, d_alpha_BD: npt.NDArray[np.float64] | Tensor | None, share_of_rate: float = 1.0) -> None:
        """Take one optimizer step for the gradient of the mean loss with respect to alpha; no-op for a frozen bottom.

        Args:
            share_of_rate: what part of the configured learning rate the step has.

        Raises:
            ProtocolError: there was no forward pass.
            ModelError: a custom bottom raised.
        """
        if self._optimizer is None or d_alpha_BD is None:
            return
        if self._pending is None:
            raise ProtocolError("the bottom's backward pass was requested before its forward pass")
        gradient = torch.as_tensor(d_alpha_BD).to(self._pending)
        with model_arithmetic(), self.bottom.guard("in its backward pass"):
            self._optimizer.zero_grad()
            self._pending.backward(gradient)  # type: ignore[no-untyped-call]
            set_rate(self._optimizer, share_of_rate)
            self._optimizer.step()
        self._pending = None

    def state(self) -> dict[str, Tensor]:
        """All state that training changes."""
        state = prefixed("model", self.bottom.state_dict())
        return state | (prefixed("optimizer", optimizer_state(self._optimizer)) if self._optimizer else {})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore what ``state`` returned.

        Raises:
            RuntimeError: the state belongs to a different model.
        """
        self.bottom.load_state_dict(under("model", state))
        if self._optimizer:
            load_optimizer_state(self._optimizer, under("optimizer", state))
