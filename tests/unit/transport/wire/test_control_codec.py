from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfl import messages as m
from vfl.errors import ProtocolError
from vfl.ids import Batch, CheckpointId, Phase, Split, StepKey
from vfl.transport.v1 import control_pb2 as pb
from vfl.transport.wire.control_codec import PROTO_TYPES, from_proto, to_proto

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
COUNT = st.integers(0, (1 << 64) - 1)
REAL = st.floats(allow_nan=False)
CHECKPOINT = st.builds(CheckpointId, step=INT64, attempt=INT64)
NAMED = {
    "rows": COUNT, "dropped": COUNT, "width": COUNT, "train_rows": COUNT, "validation_rows": COUNT, "test_rows": COUNT,
    "bytes_sent": COUNT, "bytes_received": COUNT, "peak_memory_bytes": COUNT,
    "seconds": REAL, "certified_lipschitz": REAL,
    "key": st.builds(StepKey, step=INT64, attempt=INT64), "batch": st.builds(Batch, epoch=INT64, index=INT64),
    "checkpoint": CHECKPOINT, "checkpoints": st.lists(CHECKPOINT, max_size=3).map(tuple),
    "progress": COUNT, "waiting_seconds": REAL, "progressing": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "step": INT64, "attempt": INT64, "epoch": INT64, "index": INT64,
    "gradient_receivers": st.lists(st.text(max_size=5), max_size=3).map(tuple),
    "time": REAL,
    "findings": st.lists(st.builds(m.Finding), max_size=3).map(tuple),
    "metrics": st.dictionaries(st.text(max_size=5), REAL, max_size=3),
}  # fmt: skip


def values_of(control_type):
    named = {f.name: NAMED[f.name] for f in fields(control_type) if f.name in NAMED}
    return st.builds(control_type, **named)


@pytest.mark.parametrize("control_type", PROTO_TYPES, ids=lambda t: t.__name__)
@given(data=st.data())
def test_every_control_message_survives_the_wire(control_type, data):
    value = data.draw(values_of(control_type))
    wire = to_proto(value).SerializeToString()
    assert from_proto(PROTO_TYPES[control_type].FromString(wire), control_type) == value


def test_every_control_dataclass_has_a_proto_message_with_the_same_fields():
    control = set(m.CONTROL_TYPES.values()) - {m.Failure}  # which travels as a gRPC status
    assert control | {StepKey, CheckpointId, Batch, m.Finding} == PROTO_TYPES.keys()
    for control_type, proto_type in PROTO_TYPES.items():
        assert {f.name for f in fields(control_type)} == {f.name for f in proto_type.DESCRIPTOR.fields}


@pytest.mark.parametrize("phase", [0, 99])
def test_an_unset_or_unknown_phase_is_refused(phase):
    request = to_proto(m.PhaseCall("job@1", StepKey("j", 0, 0), Phase.TOP, Batch(Split.TRAIN, 0, 0)))
    request.phase = phase
    with pytest.raises(ProtocolError, match="RunPhaseRequest has no valid 'phase'"):
        from_proto(request, m.PhaseCall)


@pytest.mark.parametrize("missing", ["key", "batch"])
def test_a_missing_nested_message_is_refused(missing):
    request = pb.RunPhaseRequest(phase=pb.PHASE_TOP, key=pb.StepKey(), batch=pb.Batch(split=pb.SPLIT_TRAIN))
    request.ClearField(missing)
    with pytest.raises(ProtocolError, match=f"no valid '{missing}'"):
        from_proto(request, m.PhaseCall)


def test_a_finding_with_an_unknown_verdict_is_refused():
    reply = to_proto(m.Diagnosis("bank", "1", "1", "", 0.0, m.Activity.WAITING))
    reply.findings.add(check=1, verdict=9)
    with pytest.raises(ProtocolError, match="Finding has no valid 'verdict'"):
        from_proto(reply, m.Diagnosis)
