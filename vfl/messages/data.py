"""Data messages: what parties send each other. Only arrays, with declared element types and numbers of dimensions.

Shape suffixes: B rows of the batch, D width of a party's bottom output, K width of the interaction output,
C ciphertexts, L primes of the ciphertext modulus, N ring degree, W words of packed residues.
"""

from __future__ import annotations

from dataclasses import dataclass

from vfl.ids import Role
from vfl.messages.message import Array, Message, Routes, tensor
from vfl.messages.protection import Protection

_TO_ACTIVE: Routes = frozenset({(Role.PASSIVE, Role.ACTIVE)})
_TO_PASSIVE: Routes = frozenset({(Role.ACTIVE, Role.PASSIVE)})
_BOTH_WAYS = _TO_ACTIVE | _TO_PASSIVE
_ALL = _BOTH_WAYS | {(Role.PASSIVE, Role.PASSIVE)}


# --- prepare ---


@dataclass(frozen=True, slots=True)
class PublicKeys(Message):
    """A party's public keys for this run: for encryption (residues) and for mask agreement (X25519).

    Signed with the key of the sender's certificate (DER; intermediate ones in PEM, usually none), over federation, run,
    attempt, sender, both keys, the state that the sender begins or resumes with, the width of its bottom, and a
    commitment to its table and bottom. Without certificates (``insecure-loopback``) the last three fields are empty.
    """

    kind = "public_keys"
    protection = Protection.PUBLIC
    routes = _ALL
    he_public_key: Array = tensor("uint8", 1)
    agreement_key: Array = tensor("uint8", 1)
    state: Array = tensor("uint8", 1)
    width: Array = tensor("uint8", 1)
    inputs: Array = tensor("uint8", 1)
    certificate: Array = tensor("uint8", 1)
    intermediates: Array = tensor("uint8", 1)
    signature: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class IdCount(Message):
    """To every other party: how many ids the sender has."""

    kind = "id_count"
    protection = Protection.PUBLIC
    routes = _ALL
    rows: Array = tensor("int64", 1)


@dataclass(frozen=True, slots=True)
class BlindedIdList(Message):
    """To the next party in the ring: part of a list of ids, blinded and shuffled by its owner and every party since."""

    kind = "blinded_id_list"
    protection = Protection.ENCRYPTED
    routes = _ALL
    points: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class FullyBlindedIdList(Message):
    """Passive to active: part of a list that all parties have blinded, 16 bytes of each entry."""

    kind = "fully_blinded_id_list"
    protection = Protection.ENCRYPTED
    routes = _TO_ACTIVE
    tags: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class CommonIdCount(Message):
    """Active to passive: how many ids all parties have in common."""

    kind = "common_id_count"
    protection = Protection.PUBLIC
    routes = _TO_PASSIVE
    rows: Array = tensor("int64", 1)


@dataclass(frozen=True, slots=True)
class CommonIds(Message):
    """Back along the ring: one bit for each entry of a list, in the order in which the receiver passed the list on.

    The mask is that order: only the party that shuffled the list can tell which entry a bit belongs to.
    """

    kind = "common_ids"
    protection = Protection.MASKED
    routes = _ALL
    members: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class SplitMembership(Message):
    """Active to all passive parties, where the job splits by label or time: the part of each aligned row.

    Two bits a row, in the canonical order of the ids, four rows a byte from the lowest bits on: 0 training, 1
    validation, 2 test.
    """

    kind = "split_membership"
    protection = Protection.PUBLIC
    routes = _TO_PASSIVE
    members: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class WeightShareOffer(Message):
    """The sender's initial interaction weights are this uniform D x K share plus one that it keeps."""

    kind = "weight_share_offer"
    protection = Protection.MASKED
    routes = _TO_ACTIVE
    share_DK: Array = tensor("int64", 2)


# --- one batch ---


@dataclass(frozen=True, slots=True)
class GradientCommitment(Message):
    """Active to all passive parties, before B1: a salted commitment to d_z, from which the lineage of noise follows."""

    kind = "gradient_commitment"
    protection = Protection.MASKED
    routes = _TO_PASSIVE
    digest: Array = tensor("uint8", 1)


@dataclass(frozen=True, slots=True)
class BestPassState(Message):
    """Active to all passive parties, before they go back to the best pass: a digest of which state that is."""

    kind = "best_pass_state"
    protection = Protection.PUBLIC
    routes = _TO_PASSIVE
    digest: Array = tensor("uint8", 1)


# --- one batch, encrypted ---


@dataclass(frozen=True, slots=True)
class FreshCiphertexts(Message):
    """Ciphertexts as created by the owner of their key: the first polynomials, and seeds for the second ones.

    Residues are bit-packed, into W words per polynomial and prime.
    """

    protection = Protection.ENCRYPTED
    ct_first_CLW: Array = tensor("uint32", 3)
    seeds_C: Array = tensor("uint8", 2)


@dataclass(frozen=True, slots=True)
class HiddenCiphertexts(Message):
    """Ciphertexts on their way back to the owner of their key: masked, re-randomized and flooded.

    Carries only those coefficients of the first polynomials that the owner reads, and all of the second ones.
    """

    protection = Protection.MASKED
    ct_first_CLW: Array = tensor("uint32", 3)
    ct_second_CLW: Array = tensor("uint32", 3)


@dataclass(frozen=True, slots=True)
class EncryptedActivations(FreshCiphertexts):
    """F1, passive to active, in parts: Enc_i(alpha_i)."""

    kind = "encrypted_activations"
    routes = _TO_ACTIVE


@dataclass(frozen=True, slots=True)
class MaskedActivationProduct(HiddenCiphertexts):
    """F2, active to passive, in parts: Enc_i(alpha_i) V_i + r_i."""

    kind = "masked_activation_product"
    routes = _TO_PASSIVE


@dataclass(frozen=True, slots=True)
class ForwardShare(Message):
    """F3, passive to active: s_i = alpha_i W_i + r_i + noise (+ pairwise masks), B x K in Z_t."""

    kind = "forward_share"
    protection = Protection.MASKED
    routes = _TO_ACTIVE
    sh_z_BK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class EncryptedGradientRows(FreshCiphertexts):
    """B1, active to passive parties, in parts: Enc_A(d_z), packed for d_z U^T.

    Not sent to parties that need no activation gradient (frozen bottoms), unless it is used for both products.
    """

    kind = "encrypted_gradient_rows"
    routes = _TO_PASSIVE


@dataclass(frozen=True, slots=True)
class EncryptedGradientBlocks(FreshCiphertexts):
    """B1, active to all passive parties, in parts: Enc_A(d_z), packed for alpha^T d_z.

    Not sent if the packing by rows is used for both products.
    """

    kind = "encrypted_gradient_blocks"
    routes = _TO_PASSIVE


@dataclass(frozen=True, slots=True)
class MaskedGradientProduct(HiddenCiphertexts):
    """B2, passive to active, in parts: Enc_A(d_z) U_i^T + mask_d_alpha_i."""

    kind = "masked_gradient_product"
    routes = _TO_ACTIVE


@dataclass(frozen=True, slots=True)
class MaskedWeightGradient(HiddenCiphertexts):
    """B2, passive to active, in parts: alpha_i^T Enc_A(d_z) + mask_d_w_i."""

    kind = "masked_weight_gradient"
    routes = _TO_ACTIVE


@dataclass(frozen=True, slots=True)
class MaskedActivationGradient(Message):
    """B3, active to passive: d alpha_i + mask_d_alpha_i + noise, B x D in Z_t.

    Only the receiver knows mask_d_alpha_i.
    """

    kind = "masked_activation_gradient"
    protection = Protection.MASKED
    routes = _TO_PASSIVE
    sh_d_alpha_BD: Array = tensor("int64", 2)


# --- one batch, in plaintext ---


@dataclass(frozen=True, slots=True)
class ClearWeights(Message):
    """Plaintext only, passive to active: the sender's initial interaction weights, in the clear."""

    kind = "clear_weights"
    protection = Protection.CLEAR
    routes = _TO_ACTIVE
    w_DK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivations(Message):
    """Plaintext only, passive to active: fixed-point activations in the clear, and the noise for Z."""

    kind = "clear_activations"
    protection = Protection.CLEAR
    routes = _TO_ACTIVE
    alpha_q_BD: Array = tensor("int64", 2)
    noise_z_BK: Array = tensor("int64", 2)


@dataclass(frozen=True, slots=True)
class ClearActivationGradient(Message):
    """Plaintext only, active to passive: fixed-point activation gradient in the clear."""

    kind = "clear_activation_gradient"
    protection = Protection.CLEAR
    routes = _TO_PASSIVE
    d_alpha_BD: Array = tensor("int64", 2)


def _data_message_types(base: type[Message]) -> dict[str, type[Message]]:
    types = {base.kind: base} if "kind" in vars(base) else {}
    for derived in base.__subclasses__():
        types |= _data_message_types(derived)
    return types


MESSAGE_TYPES = _data_message_types(Message)
"""Every data message by kind; the codec refuses anything else."""
