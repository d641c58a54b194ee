"""Target: replies to the coordinator, from their bytes to the values that it uses."""

from __future__ import annotations

from functools import cache
from typing import Any

from support.fuzzing.decoders.files import EXAMPLES
from support.fuzzing.decoders.messages import CHECKPOINT, KEY, _Answering, _as_grpc_hands_out, _control_client, loop
from support.fuzzing.members import JOB
from support.fuzzing.registry import fuzz_target
from vfl import messages as m
from vfl.coordinator.replies import CheckedControl
from vfl.ids import Batch, Phase, Role, Split
from vfl.job.setup import load_job_setup
from vfl.transport.wire.control_codec import PROTO_TYPES, to_proto

PARTY, PEER = "bank", "clinic"
_WHERE = ("job@1", JOB, 0)
_CALLS: tuple[tuple[str, m.ControlMessage, tuple[float, ...], m.ControlMessage], ...] = (
    ("prepare", m.Prepare(*_WHERE, "job=1", "1"), (), m.Prepared(PARTY, Role.ACTIVE, 3, 1, (CHECKPOINT,))),
    ("restore", m.Restore("job@1", JOB, 1, CHECKPOINT), (), m.Restored(PARTY)),
    ("align", m.Align(*_WHERE, count_only=True), (1.0,), m.Aligned(7, 2, 1, 0, 4)),
    ("begin", m.Begin(*_WHERE), (), m.Begun(PARTY)),
    (
        "run_phase",
        m.PhaseCall("job@1", KEY, Phase.TOP, Batch(Split.TRAIN, 0, 3)),
        (),
        m.PhaseReport(0.5, 3, 4, {"loss": 0.5}),
    ),
    ("score", m.Score(*_WHERE, Split.TEST, 1), (), m.Scored({"auc": 0.5})),
    ("checkpoint", m.Checkpoint("job@1", KEY, durable=True), (), m.Checkpointed(CHECKPOINT)),
    ("commit", m.Commit(*_WHERE, CHECKPOINT), (), m.Committed(PARTY)),
    ("heartbeat", m.Heartbeat(*_WHERE, (PEER,)), (1.0,), m.Alive(PARTY, "alignment", 5, PEER, 1.5)),
    ("finish", m.Finish(*_WHERE), (), m.Finished(PARTY, 1, 2, 3, 1.0)),
    ("release", m.Release(*_WHERE), (1.0,), m.Released(PARTY)),
    ("offer", m.Offer(*_WHERE, "job=1", "1", "{}"), (), m.Offered(PARTY)),
)


class _Client:
    """The connection to a party whose reply to every call is this one."""

    def __init__(self, reply: Any, reply_type: type[m.ControlMessage]) -> None:
        self._reply, self._type, self._client = reply, reply_type, _control_client()

    def __getattr__(self, _: str) -> Any:
        return self._answer

    async def _answer(self, call: m.ControlMessage, *_: float) -> Any:
        return await self._client._call(_Answering(self._reply), call, self._type, 1.0)


@cache
def _setup() -> tuple[Any, Any]:
    job, federation, _ = load_job_setup(EXAMPLES / "job.toml")
    return job, federation


@fuzz_target(lambda: [bytes((at,)) + to_proto(reply).SerializeToString() for at, (*_, reply) in enumerate(_CALLS)])
def checked_reply(data: bytes) -> None:
    """A party's reply as the coordinator uses it: read, checked and bounded; the first byte says to which call."""
    method, call, more, example = _CALLS[(data[0] if data else 0) % len(_CALLS)]
    reply = _as_grpc_hands_out(data[1:], PROTO_TYPES[type(example)])
    control = CheckedControl(_Client(reply, type(example)), PARTY, *_setup())
    loop().run_until_complete(getattr(control, method)(call, *more))
