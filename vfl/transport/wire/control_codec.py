"""Converts control messages to proto messages and back, field by field, under the same names."""

from __future__ import annotations

import functools
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from vfl import messages as m
from vfl.errors import ProtocolError
from vfl.ids import Batch, CheckpointId, StepKey
from vfl.messages.offer import MOST_CHARACTERS
from vfl.transport.v1 import control_pb2 as pb
from vfl.transport.v1 import doctor_pb2, identity_pb2

PROTO_TYPES: dict[type, Any] = {
    StepKey: pb.StepKey,
    CheckpointId: pb.CheckpointId,
    Batch: pb.Batch,
    m.Offer: pb.OfferRequest,
    m.Offered: pb.OfferReply,
    m.Prepare: pb.PrepareRequest,
    m.Prepared: pb.PrepareReply,
    m.Restore: pb.RestoreRequest,
    m.Restored: pb.RestoreReply,
    m.Align: pb.AlignRequest,
    m.Aligned: pb.AlignReply,
    m.Begin: pb.BeginRequest,
    m.Begun: pb.BeginReply,
    m.PhaseCall: pb.RunPhaseRequest,
    m.PhaseReport: pb.RunPhaseReply,
    m.Score: pb.ScoreRequest,
    m.Scored: pb.ScoreReply,
    m.Checkpoint: pb.CheckpointRequest,
    m.Checkpointed: pb.CheckpointReply,
    m.Commit: pb.CommitRequest,
    m.Committed: pb.CommitReply,
    m.Heartbeat: pb.HeartbeatRequest,
    m.Alive: pb.HeartbeatReply,
    m.Abort: pb.AbortRequest,
    m.Finish: pb.FinishRequest,
    m.Finished: pb.FinishReply,
    m.Release: pb.ReleaseRequest,
    m.Released: pb.ReleaseReply,
    m.ProveIdentity: identity_pb2.ProveRequest,
    m.IdentityProof: identity_pb2.ProveReply,
    m.Finding: doctor_pb2.Finding,
    m.Diagnose: doctor_pb2.DiagnoseRequest,
    m.Diagnosis: doctor_pb2.DiagnoseReply,
}
"""The proto message of every dataclass that control calls carry."""
MAX_TEXT = 8192
"""Characters of a text in a control message, but for the text of an offered job; the longest is a digest, with some 75
for each table of the files."""

ControlT = TypeVar("ControlT")


def to_proto(value: Any) -> Any:
    """Convert a control dataclass to its proto message."""
    return PROTO_TYPES[type(value)](**{spec.name: _encode(getattr(value, spec.name)) for spec in fields(value)})


def from_proto(proto: Any, control: type[ControlT]) -> ControlT:
    """Convert a received proto message to its control dataclass.

    Raises:
        ProtocolError: an enumeration is unset or from a later version, a nested message is missing, or a text is longer
            than any honest one: texts are kept in memory and in logs.
    """
    hints = _hints(control)  # type: ignore[arg-type]  # types are hashable
    specs = fields(control)  # type: ignore[arg-type]  # every control type is a dataclass
    for spec in specs:
        if hints[spec.name] is str and len(getattr(proto, spec.name)) > spec.metadata.get(MOST_CHARACTERS, MAX_TEXT):
            raise _malformed(proto, spec.name)
    return control(**{spec.name: _decode(proto, spec.name, hints[spec.name]) for spec in specs})


@functools.cache
def _hints(control: type) -> dict[str, Any]:
    return get_type_hints(control)


def _encode(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return f"{_prefix(type(value))}{value.name}"
    if isinstance(value, tuple):
        return [_encode(item) for item in value]
    return to_proto(value) if is_dataclass(value) else value


def _prefix(enum: type[StrEnum]) -> str:
    return f"{enum.__name__.upper()}_"


def _decode(proto: Any, name: str, hint: Any) -> Any:
    value = getattr(proto, name)
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return _decode_enum(proto, name, value, hint)
    if is_dataclass(hint):
        if not proto.HasField(name):
            raise _malformed(proto, name)
        return from_proto(value, hint)  # type: ignore[arg-type]  # is_dataclass also admits instances; a hint is a type
    container = get_origin(hint)
    if container is tuple and is_dataclass(item := get_args(hint)[0]):
        return tuple(from_proto(each, item) for each in value)  # type: ignore[arg-type]  # as above
    return value if container is None else container(value)


def _decode_enum(proto: Any, name: str, number: int, enum: type[StrEnum]) -> StrEnum:
    declared = proto.DESCRIPTOR.fields_by_name[name].enum_type.values_by_number.get(number)
    member = declared.name.removeprefix(_prefix(enum)) if declared else ""
    if member not in enum.__members__:
        raise _malformed(proto, name)
    return enum[member]


def _malformed(proto: Any, name: str) -> ProtocolError:
    return ProtocolError(
        f"{proto.DESCRIPTOR.name} has no valid '{name}'",
        remedy="check that coordinator and parties run the same version of vfl",
    )
