"""The message boundary: a value that has no type in this file cannot leave a party.

Data messages travel from party to party and carry only the arrays declared here, with their element types and numbers
of dimensions. Control messages travel between the coordinator and a party and carry names, counts, timings and the
metrics that the active party publishes.

Shape suffixes: B rows of the batch, D width of a party's bottom output, K width of the interaction output,
C ciphertexts, L primes of the ciphertext modulus, N ring degree, W words of packed residues.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from vfl.errors import ProtocolError
from vfl.ids import Batch, Phase, Role, Split, StepKey

Array = npt.NDArray[Any]
"""A message tensor; the element type is declared by the field."""

MAX_DIMENSIONS = 4


def tensor(dtype: str, ndim: int) -> Any:
    """Declare a message field that holds an array of exactly this element type and number of dimensions."""
    return field(metadata={"dtype": np.dtype(dtype), "ndim": ndim})


class Protection(StrEnum):
    """What keeps a message from telling more than it is meant to."""

    ENCRYPTED = "encrypted"
    """Under a key that the receiver does not have."""
    MASKED = "masked"
    """Uniformly random by itself; only who knows the mask reads what is under it."""
    PUBLIC = "public"
    """Meant to be read: public keys, counts, names, timings, published metrics. Nothing about a single row."""
    CLEAR = "clear"
    """Activations, gradients or weights that the receiver reads. The oracle's alone, never in an encrypted job."""


@dataclass(frozen=True, slots=True)
class Message:
    """Base of data messages. Every kind declares what protects it."""

    kind: ClassVar[str]
    protection: ClassVar[Protection]

    def __post_init__(self) -> None:
        for spec in fields(self):
            value = getattr(self, spec.name)
            dtype, ndim = spec.metadata["dtype"], spec.metadata["ndim"]
            if not isinstance(value, np.ndarray) or value.dtype != dtype or value.ndim != ndim:
                raise ProtocolError(
                    f"message '{self.kind}' carries a malformed tensor '{spec.name}': "
                    f"expected {dtype} with {ndim} dimension(s)",
                    remedy="check that every party runs the same version of vfl",
                )

    def tensors(self) -> dict[str, Array]:
        """The arrays of the message by field name, in declaration order."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}


# --- prepare ---


@dataclass(frozen=True, slots=True)
class PublicKeys(Message):
    """A party's public keys of this job: for encryption (residues) and for mask agreement (X25519)."""

    kind = "public_keys"
    protection = Protection.PUBLIC
    he_public_key: Array = tensor("uint8", 1)
    agreement_key: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class IdSetDigest(Message):
    """Number of rows and keyed digest (HMAC-SHA-256 under a key of the two parties) of a party's set of ids."""

    kind = "id_set_digest"
    protection = Protection.PUBLIC
    rows: Array = tensor("int64", 1)
    digest: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class WeightShareOffer(Message):
    """The sender's contribution to the initial interaction weights is this uniform D x K share plus one it keeps."""

    kind = "weight_share_offer"
    protection = Protection.MASKED
    share_DK: Array = tensor("int64", 2)


# --- one batch, encrypted ---


@dataclass(frozen=True, slots=True)
class FreshCiphertexts(Message):
    """Ciphertexts as their key's owner made them: first polynomials, and the seeds of the second ones.

    Residues are packed to their bits, W words a polynomial and prime.
    """

    protection = Protection.ENCRYPTED
    ct_first_CLW: Array = tensor("uint32", 3)
    seeds_C: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class HiddenCiphertexts(Message):
    """Ciphertexts on the way back to their key's owner: masked, re-randomised and flooded.

    Of the first polynomials only the coefficients that the owner reads, of the second ones all.
    """

    protection = Protection.MASKED
    ct_first_CLW: Array = tensor("uint32", 3)
    ct_second_CLW: Array = tensor("uint32", 3)


@dataclass(frozen=True, slots=True)
class EncryptedActivations(FreshCiphertexts):
    """F1, passive to active, in parts: Enc_i(alpha_i)."""

    kind = "encrypted_activations"


@dataclass(frozen=True, slots=True)
class MaskedActivationProduct(HiddenCiphertexts):
    """F2, active to passive, in parts: Enc_i(alpha_i) V_i + r_i."""

    kind = "masked_activation_product"


@dataclass(frozen=True, slots=True)
class ForwardShare(Message):
    """F3, passive to active: s_i = alpha_i W_i + r_i (+ pairwise masks), B x K in Z_t."""

    kind = "forward_share"
    protection = Protection.MASKED
    sh_z_BK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class EncryptedGradientRows(FreshCiphertexts):
    """B1, active to passive parties, in parts: Enc_A(delta), packed for delta U^T.

    Not sent to parties that need no activation gradient (frozen bottoms), unless it serves both products.
    """

    kind = "encrypted_gradient_rows"


@dataclass(frozen=True, slots=True)
class EncryptedGradientBlocks(FreshCiphertexts):
    """B1, active to all passive parties, in parts: Enc_A(delta), packed for alpha^T delta.

    Not sent where the packing by rows serves both products.
    """

    kind = "encrypted_gradient_blocks"


@dataclass(frozen=True, slots=True)
class MaskedGradientProduct(HiddenCiphertexts):
    """B2, passive to active, in parts: Enc_A(delta) U_i^T + rho_i."""

    kind = "masked_gradient_product"


@dataclass(frozen=True, slots=True)
class MaskedWeightGradient(HiddenCiphertexts):
    """B2, passive to active, in parts: alpha_i^T Enc_A(delta) + phi_i."""

    kind = "masked_weight_gradient"


@dataclass(frozen=True, slots=True)
class MaskedActivationGradient(Message):
    """B3, active to passive: d alpha_i + rho_i, B x D in Z_t; only the receiver knows rho_i."""

    kind = "masked_activation_gradient"
    protection = Protection.MASKED
    sh_d_alpha_BD: Array = tensor("int64", 2)


# --- one batch, plaintext oracle ---


@dataclass(frozen=True, slots=True)
class ClearWeights(Message):
    """Oracle only, passive to active: the sender's contribution to the initial interaction weights, in the clear."""

    kind = "clear_weights"
    protection = Protection.CLEAR
    w_DK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivations(Message):
    """Oracle only, passive to active: fixed-point activations in the clear."""

    kind = "clear_activations"
    protection = Protection.CLEAR
    alpha_BD: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivationGradient(Message):
    """Oracle only, active to passive: fixed-point activation gradient in the clear."""

    kind = "clear_activation_gradient"
    protection = Protection.CLEAR
    d_alpha_BD: Array = tensor("int64", 2)


def _data_message_types(base: type[Message]) -> dict[str, type[Message]]:
    types = {base.kind: base} if "kind" in vars(base) else {}
    for derived in base.__subclasses__():
        types |= _data_message_types(derived)
    return types


MESSAGE_TYPES = _data_message_types(Message)
"""Every data message by kind; the codec refuses anything else."""


# --- control ---


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """Base of control messages and their replies. They carry no tensor, and nothing that not everybody may read."""

    kind: ClassVar[str]
    protection: ClassVar[Protection] = Protection.PUBLIC


@dataclass(frozen=True, slots=True)
class Prepare(ControlMessage):
    """Coordinator to party: get ready for a job. The digest is that of the coordinator's own job and federation."""

    kind = "prepare"
    job: str
    attempt: int
    digest: str
    protocol_version: str


@dataclass(frozen=True, slots=True)
class Prepared(ControlMessage):
    """Party to coordinator: it is the same job here, and the table is loaded."""

    kind = "prepared"
    party: str
    role: Role
    rows: int


@dataclass(frozen=True, slots=True)
class Align(ControlMessage):
    """Coordinator to party: exchange public keys, check that all hold the same ids, build the models."""

    kind = "align"
    job: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Aligned(ControlMessage):
    """Party to coordinator: rows that all parties share, rows of each split, and this party's bottom.

    ``trainable`` is false for a frozen bottom, which then needs no gradient.
    """

    kind = "aligned"
    rows: int
    train_rows: int
    validation_rows: int
    test_rows: int
    width: int
    trainable: bool


@dataclass(frozen=True, slots=True)
class Begin(ControlMessage):
    """Coordinator to party: agree on initial interaction weights.

    ``gradient_receivers`` names the passive parties whose bottoms train.
    """

    kind = "begin"
    job: str
    attempt: int
    gradient_receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun(ControlMessage):
    """Party to coordinator: ready for the first batch."""

    kind = "begun"
    party: str


@dataclass(frozen=True, slots=True)
class PhaseCall(ControlMessage):
    """Coordinator to party: do one phase of one step. Idempotent under (key, phase)."""

    kind = "phase_call"
    key: StepKey
    phase: Phase
    batch: Batch


@dataclass(frozen=True, slots=True)
class PhaseReport(ControlMessage):
    """Party to coordinator: the phase is done. Metrics are those that the active party publishes, empty elsewhere."""

    kind = "phase_report"
    seconds: float
    bytes_sent: int
    bytes_received: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score(ControlMessage):
    """Coordinator to party: compute the metrics of everything scored since the last call."""

    kind = "score"
    job: str
    split: Split
    epoch: int


@dataclass(frozen=True, slots=True)
class Scored(ControlMessage):
    """Active party to coordinator: published metrics of a split; empty at passive parties."""

    kind = "scored"
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Abort(ControlMessage):
    """Either way: the job stops. ``origin`` is the party or coordinator where the reason arose."""

    kind = "abort"
    job: str
    origin: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Failure(ControlMessage):
    """A refusal in place of a reply: the safe part of an error, which travels as a gRPC status. Never the detail."""

    kind = "failure"
    party: str
    code: str
    summary: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Finish(ControlMessage):
    """Coordinator to party: training is over, save your part of the model."""

    kind = "finish"
    job: str


@dataclass(frozen=True, slots=True)
class Finished(ControlMessage):
    """Party to coordinator: saved. Only sums that the party publishes about itself."""

    kind = "finished"
    party: str
    bytes_sent: int
    bytes_received: int
    peak_memory_bytes: int
    certified_lipschitz: float


CONTROL_TYPES = {cls.kind: cls for cls in ControlMessage.__subclasses__()}
"""Every control message by kind."""
