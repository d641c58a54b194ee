"""The message boundary: a value that has no type in this file cannot leave a party.

Data messages travel from party to party and carry only the arrays declared here, with their element types and numbers
of dimensions. Control messages travel between the coordinator and a party and carry names, counts, timings and the
metrics that the active party publishes.

Shape suffixes: B rows of the batch, D width of a party's bottom output, K width of the interaction output,
C ciphertexts, L primes of the ciphertext modulus, N ring degree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
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


@dataclass(frozen=True, slots=True)
class Message:
    """Base of data messages. Those that show features or gradients ``in_the_clear`` belong to the oracle alone; a
    party in an encrypted job never sends one."""

    kind: ClassVar[str]
    in_the_clear: ClassVar[bool] = False

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
    he_public_key: Array = tensor("uint8", 1)
    agreement_key: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class IdCount(Message):
    """Number of ids of a party, to each other one."""

    kind = "id_count"
    rows: Array = tensor("int64", 1)


@dataclass(frozen=True, slots=True)
class BlindedIdList(Message):
    """To the next party of the ring: a part of a list of ids, blinded and shuffled by its owner and those before."""

    kind = "blinded_id_list"
    points: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class FullyBlindedIdList(Message):
    """Passive to active: a part of a list that all parties have blinded, 16 bytes of each entry."""

    kind = "fully_blinded_id_list"
    tags: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class CommonIdCount(Message):
    """Active to passive: how many ids all parties have in common."""

    kind = "common_id_count"
    rows: Array = tensor("int64", 1)


@dataclass(frozen=True, slots=True)
class CommonIds(Message):
    """Back along the ring: one bit for each entry of a list, in the order in which the receiver passed it on."""

    kind = "common_ids"
    members: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class WeightShareOffer(Message):
    """The sender's contribution to the initial interaction weights is this uniform D x K share plus one it keeps."""

    kind = "weight_share_offer"
    share_DK: Array = tensor("int64", 2)


# --- one batch, encrypted ---


@dataclass(frozen=True, slots=True)
class EncryptedActivations(Message):
    """F1, passive to active: Enc_i(alpha_i), fresh: first polynomials, and the seeds of the second ones."""

    kind = "encrypted_activations"
    ct_alpha_CLN: Array = tensor("uint32", 3)
    seeds_C: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class MaskedActivationProduct(Message):
    """F2, active to passive: Enc_i(alpha_i) V_i + r_i; masked, re-randomised and flooded."""

    kind = "masked_activation_product"
    ct_z_C2LN: Array = tensor("uint32", 4)


@dataclass(frozen=True, slots=True)
class ForwardShare(Message):
    """F3, passive to active: s_i = alpha_i W_i + r_i (+ pairwise masks), B x K in Z_t."""

    kind = "forward_share"
    sh_z_BK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class EncryptedGradient(Message):
    """B1, active to all passive parties: Enc_A(delta), fresh, packed once for delta U^T and once for alpha^T delta.

    The packing by blocks has no ciphertexts where one packing serves both products; the one by rows has none where no
    receiver needs its activation gradient (frozen bottoms).
    """

    kind = "encrypted_gradient"
    ct_by_rows_CLN: Array = tensor("uint32", 3)
    seeds_by_rows_C: Array = tensor("uint8", 2)
    ct_by_blocks_CLN: Array = tensor("uint32", 3)
    seeds_by_blocks_C: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class MaskedGradientProducts(Message):
    """B2, passive to active: Enc_A(delta) U_i^T + rho_i and alpha_i^T Enc_A(delta) + phi_i, both hidden as in F2."""

    kind = "masked_gradient_products"
    ct_d_alpha_C2LN: Array = tensor("uint32", 4)
    ct_d_w_C2LN: Array = tensor("uint32", 4)


@dataclass(frozen=True, slots=True)
class MaskedActivationGradient(Message):
    """B3, active to passive: d alpha_i + rho_i, B x D in Z_t; only the receiver knows rho_i."""

    kind = "masked_activation_gradient"
    sh_d_alpha_BD: Array = tensor("int64", 2)


# --- one batch, plaintext oracle ---


@dataclass(frozen=True, slots=True)
class ClearWeights(Message):
    """Oracle only, passive to active: the sender's contribution to the initial interaction weights, in the clear."""

    kind = "clear_weights"
    in_the_clear = True
    w_DK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivations(Message):
    """Oracle only, passive to active: fixed-point activations in the clear."""

    kind = "clear_activations"
    in_the_clear = True
    alpha_BD: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivationGradient(Message):
    """Oracle only, active to passive: fixed-point activation gradient in the clear."""

    kind = "clear_activation_gradient"
    in_the_clear = True
    d_alpha_BD: Array = tensor("int64", 2)


def _data_message_types() -> dict[str, type[Message]]:
    return {cls.kind: cls for cls in Message.__subclasses__()}


MESSAGE_TYPES = _data_message_types()
"""Every data message by kind; the codec refuses anything else."""


# --- control ---


@dataclass(frozen=True, slots=True)
class Prepare:
    """Coordinator to party: get ready for a job. The digest is that of the coordinator's own job and federation."""

    job: str
    attempt: int
    digest: str
    protocol_version: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """Party to coordinator: it is the same job here, and the table is loaded. Rows without an id are ``dropped``."""

    party: str
    role: Role
    rows: int
    dropped: int


@dataclass(frozen=True, slots=True)
class Align:
    """Coordinator to party: exchange public keys, find the common ids, build the models.

    With ``count_only`` all learn how many ids are common, and nothing else happens.
    """

    job: str
    attempt: int
    count_only: bool


@dataclass(frozen=True, slots=True)
class Aligned:
    """Party to coordinator: rows that all parties share, rows of each split, and this party's bottom.

    ``trainable`` is false for a frozen bottom, which then needs no gradient. Where only the common ids were counted,
    there are no splits and no bottom yet.
    """

    rows: int
    train_rows: int
    validation_rows: int
    test_rows: int
    width: int
    trainable: bool


@dataclass(frozen=True, slots=True)
class Begin:
    """Coordinator to party: agree on initial interaction weights.

    ``gradient_receivers`` names the passive parties whose bottoms train.
    """

    job: str
    attempt: int
    gradient_receivers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """Party to coordinator: ready for the first batch."""

    party: str


@dataclass(frozen=True, slots=True)
class PhaseCall:
    """Coordinator to party: do one phase of one step. Idempotent under (key, phase)."""

    key: StepKey
    phase: Phase
    batch: Batch


@dataclass(frozen=True, slots=True)
class PhaseReport:
    """Party to coordinator: the phase is done. Metrics are those that the active party publishes, empty elsewhere."""

    seconds: float
    bytes_sent: int
    bytes_received: int
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Score:
    """Coordinator to party: compute the metrics of everything scored since the last call."""

    job: str
    split: Split
    epoch: int


@dataclass(frozen=True, slots=True)
class Scored:
    """Active party to coordinator: published metrics of a split; empty at passive parties."""

    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Abort:
    """Either way: the job stops. ``origin`` is the party or coordinator where the reason arose."""

    job: str
    origin: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Finish:
    """Coordinator to party: training is over, save your part of the model."""

    job: str


@dataclass(frozen=True, slots=True)
class Finished:
    """Party to coordinator: saved. Only sums that the party publishes about itself."""

    party: str
    bytes_sent: int
    bytes_received: int
    peak_memory_bytes: int
    certified_lipschitz: float
