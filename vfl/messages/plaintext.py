"""Data messages of the plaintext protocol, which parties refuse unless their policy allows it."""

from __future__ import annotations

from dataclasses import dataclass

from vfl.messages.data import TO_ACTIVE, TO_PASSIVE, Array, Message, tensor
from vfl.messages.protection import Protection


@dataclass(frozen=True, slots=True)
class ClearWeights(Message):
    """Plaintext only, passive to active: the sender's initial interaction weights, in the clear."""

    kind = "clear_weights"
    protection = Protection.CLEAR
    routes = TO_ACTIVE
    w_DK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivations(Message):
    """Plaintext only, passive to active: fixed-point activations in the clear, and the noise for Z."""

    kind = "clear_activations"
    protection = Protection.CLEAR
    routes = TO_ACTIVE
    alpha_q_BD: Array = tensor("int64", 2)
    noise_z_BK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivationGradient(Message):
    """Plaintext only, active to passive: fixed-point activation gradient in the clear."""

    kind = "clear_activation_gradient"
    protection = Protection.CLEAR
    routes = TO_PASSIVE
    d_alpha_BD: Array = tensor("int64", 2)
