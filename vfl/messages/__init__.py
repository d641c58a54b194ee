"""The message boundary: a value that has no type here cannot leave a party.

``data`` defines what travels from party to party: only the arrays declared there, with their element types and numbers
of dimensions. Only names, counts, timings and the metrics that the active party publishes travel between the
coordinator and a party: ``control`` defines the calls of a run, ``heartbeat`` the call made alongside them, and
``diagnosis`` the call that any member may make to a party outside of a job.
"""

from vfl.messages.control import (
    Abort,
    Align,
    Aligned,
    Begin,
    Begun,
    Checkpoint,
    Checkpointed,
    Commit,
    Committed,
    ControlMessage,
    Failure,
    Finish,
    Finished,
    PhaseCall,
    PhaseReport,
    Prepare,
    Prepared,
    Release,
    Released,
    Restore,
    Restored,
    Score,
    Scored,
)
from vfl.messages.data import (
    MAX_DIMENSIONS,
    Array,
    BlindedIdList,
    CommonIdCount,
    CommonIds,
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    ForwardShare,
    FreshCiphertexts,
    FullyBlindedIdList,
    GradientCommitment,
    HiddenCiphertexts,
    IdCount,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
    Message,
    PublicKeys,
    WeightShareOffer,
)
from vfl.messages.diagnosis import Activity, Check, Diagnose, Diagnosis, Finding, Verdict
from vfl.messages.heartbeat import Alive, Heartbeat
from vfl.messages.plaintext import ClearActivationGradient, ClearActivations, ClearWeights
from vfl.messages.protection import Protection

__all__ = [
    "CONTROL_TYPES",
    "MAX_DIMENSIONS",
    "MESSAGE_TYPES",
    "Abort",
    "Activity",
    "Align",
    "Aligned",
    "Alive",
    "Array",
    "Begin",
    "Begun",
    "BlindedIdList",
    "Check",
    "Checkpoint",
    "Checkpointed",
    "ClearActivationGradient",
    "ClearActivations",
    "ClearWeights",
    "Commit",
    "Committed",
    "CommonIdCount",
    "CommonIds",
    "ControlMessage",
    "Diagnose",
    "Diagnosis",
    "EncryptedActivations",
    "EncryptedGradientBlocks",
    "EncryptedGradientRows",
    "Failure",
    "Finding",
    "Finish",
    "Finished",
    "ForwardShare",
    "FreshCiphertexts",
    "FullyBlindedIdList",
    "GradientCommitment",
    "Heartbeat",
    "HiddenCiphertexts",
    "IdCount",
    "MaskedActivationGradient",
    "MaskedActivationProduct",
    "MaskedGradientProduct",
    "MaskedWeightGradient",
    "Message",
    "PhaseCall",
    "PhaseReport",
    "Prepare",
    "Prepared",
    "Protection",
    "PublicKeys",
    "Release",
    "Released",
    "Restore",
    "Restored",
    "Score",
    "Scored",
    "Verdict",
    "WeightShareOffer",
]

CONTROL_TYPES = {cls.kind: cls for cls in ControlMessage.__subclasses__()}
"""Every control message by kind."""


def _data_message_types(base: type[Message]) -> dict[str, type[Message]]:
    types = {base.kind: base} if "kind" in vars(base) else {}
    for derived in base.__subclasses__():
        types |= _data_message_types(derived)
    return types


MESSAGE_TYPES = _data_message_types(Message)
"""Every data message by kind; the codec refuses anything else."""
