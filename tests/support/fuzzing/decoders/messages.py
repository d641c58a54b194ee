"""Targets: what crosses between parties and coordinator as gRPC messages, statuses and metadata."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator
from functools import cache
from typing import Any

import grpc
import grpc.aio
import numpy as np
from google.protobuf.message import DecodeError
from grpc import _common as grpc_common

from support.fuzzing.edits import frame, framed, frames
from support.fuzzing.members import ACTIVE, COORDINATOR, JOB, PASSIVE, Context, federation
from support.fuzzing.registry import fuzz_target
from vfl import messages as m
from vfl.audit.log import Chain, Crossed
from vfl.ids import Address, Batch, CheckpointId, Phase, Role, Split, StepKey
from vfl.job.digests import check_digest
from vfl.messages import MESSAGE_TYPES, Message
from vfl.transport.client import ControlClient, PeerClient
from vfl.transport.diagnosis.call import read_diagnosis
from vfl.transport.inbox import Inbox
from vfl.transport.server import PartyServer
from vfl.transport.v1 import data_pb2, doctor_pb2
from vfl.transport.wire import data_codec as codec
from vfl.transport.wire.control_codec import PROTO_TYPES, from_proto, to_proto
from vfl.transport.wire.failures import Call, as_failure, from_rpc_error, to_status
from vfl.transport.wire.limits import Limits
from vfl.transport.wire.recorder import (
    MessageRecord,
    call_key,
    control_record,
    fresh_salt,
    received_salt,
    salt_metadata,
)

LIMITS = Limits(max_message_bytes=1 << 16, inbox_bytes=1 << 18, held_bytes=1 << 17, stall_seconds=5.0)
KEY = StepKey(JOB, 1, 0)
SALT = bytes(32)

logging.getLogger("grpc._common").disabled = True  # it writes a stack trace for every message that cannot be read


class Log:
    """Turns what crosses into lines of an audit log, as a party's own does."""

    def __init__(self) -> None:
        self._chain = Chain()

    def record(self, crossing: MessageRecord) -> None:
        facts = {"kind": crossing.kind, "peer": crossing.peer, "bytes": crossing.bytes, "digest": crossing.digest}
        batch = crossing.batch
        if batch is not None:
            facts["batch"] = dataclasses.asdict(batch) | {"phase": str(crossing.phase), "split": str(batch.split)}
        tensors = [{"name": t.name, "dtype": t.dtype, "shape": list(t.shape)} for t in crossing.tensors]
        where = {"step": crossing.key.step, "attempt": crossing.key.attempt, "part": crossing.part}
        how = {"direction": str(crossing.direction), "protection": crossing.protection, "tensors": tensors}
        self._chain.written(self._chain.line(Crossed, "2026-01-01T00:00:00.000Z", **facts, **where, **how))


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The event loop that handlers run in."""
    return asyncio.new_event_loop()


# --- data messages ---


def example(kind: str, side: int = 2) -> Message:
    """A message of a kind, with small tensors."""
    message_type = MESSAGE_TYPES[kind]
    return message_type(
        **{
            spec.name: np.arange(side ** spec.metadata["ndim"]).reshape((side,) * spec.metadata["ndim"])
            .astype(spec.metadata["dtype"])
            for spec in dataclasses.fields(message_type)
        }
    )  # fmt: skip


def chunks_of(message: Message, sender: str = PASSIVE) -> Iterator[bytes]:
    """A message as its serialized chunks."""
    address = Address(KEY, message.kind, sender)
    header = codec.encode_header(address, message, receiver=ACTIVE, max_message_bytes=LIMITS.max_message_bytes)
    yield data_pb2.Chunk(header=header).SerializeToString()
    for chunk in codec.encode_payload(message, 24):
        yield chunk.SerializeToString()


async def _parsed(pieces: list[bytes]) -> AsyncIterator[data_pb2.Chunk]:
    for piece in pieces:
        yield data_pb2.Chunk.FromString(piece)


@fuzz_target(lambda: (framed(chunks_of(example(kind))) for kind in MESSAGE_TYPES))
def data_message(data: bytes) -> None:
    """A message to a party in the middle of a job: serialized chunks as they come off a stream."""
    inbox = Inbox(LIMITS)
    inbox.open_run(JOB, 0, {PASSIVE})
    server = PartyServer(ACTIVE, "127.0.0.1:0", _nobody(), inbox, None, federation(), recorder=Log())
    context = Context(salt_metadata(SALT))
    loop().run_until_complete(server._data.Deliver(_parsed(list(frames(data))), context))


def _nobody() -> Any:
    """A control handler that no data message reaches."""
    return None


# --- control messages ---

CHECKPOINT = CheckpointId(3, 0, "0" * 64)
EXAMPLES: tuple[m.ControlMessage, ...] = (
    m.Prepare("job@1", JOB, 0, "job=1", "1"),
    m.Align("job@1", JOB, 0, count_only=True),
    m.Begin("job@1", JOB, 0),
    *(m.PhaseCall("job@1", KEY, phase, Batch(Split.TRAIN, 0, 3)) for phase in (Phase.TOP, Phase.LOCAL_EPOCH)),
    m.Restore("job@1", JOB, 1, CHECKPOINT),
    m.Score("job@1", JOB, 0, Split.TEST, 1),
    m.Checkpoint("job@1", KEY, durable=True),
    m.Commit("job@1", JOB, 0, CHECKPOINT),
    m.Heartbeat("job@1", JOB, 0, (PASSIVE,)),
    m.Abort("job@1", JOB, 0, ACTIVE, "data", "the table has no rows"),
    m.Finish("job@1", JOB, 0),
    m.Release("job@1", JOB, 0),
    m.Diagnose(probe_peers=True),
    m.ProveIdentity(bytes(32)),
    m.Offer("job@1", JOB, 0, "job=1", "1", "{}"),
)
REPLIES: tuple[m.ControlMessage, ...] = (
    m.Prepared(ACTIVE, Role.ACTIVE, 3, 1, (CHECKPOINT,)),
    m.Restored(ACTIVE),
    m.Checkpointed(CHECKPOINT),
    m.Committed(ACTIVE),
    m.Alive(ACTIVE, "alignment", 5, PASSIVE, 1.5),
    m.Released(ACTIVE),
    m.Aligned(3, 2, 1, 0, 4),
    m.Begun(ACTIVE),
    m.PhaseReport(0.5, 3, 4, {"loss": 0.5}),
    m.Scored({"auc": 0.5}),
    m.Finished(ACTIVE, 1, 2, 3, 1.0),
    m.IdentityProof(b"", b"", b""),
    m.Offered(ACTIVE),
)
DIAGNOSIS = m.Diagnosis(
    ACTIVE, "1", "0.1.0", "job=1", 1.7e9, m.Activity.BUSY,
    (m.Finding(ACTIVE, PASSIVE, m.Check.TLS, m.Verdict.PROBLEM, "no", ACTIVE, "do", "unreachable"),),
)  # fmt: skip


def _encoded(examples: tuple[m.ControlMessage, ...]) -> list[bytes]:
    return [bytes((n,)) + to_proto(each).SerializeToString() for n, each in enumerate(examples)]


@fuzz_target(lambda: _encoded(EXAMPLES))
def control_request(data: bytes) -> None:
    """A call of the coordinator; the first byte says which."""
    call_type = type(EXAMPLES[data[0] % len(EXAMPLES)]) if data else m.Prepare
    try:
        request = PROTO_TYPES[call_type].FromString(data[1:])
    except DecodeError:
        return  # gRPC answers this itself, no handler is called
    call = from_proto(request, call_type)
    if isinstance(call, m.Prepare):
        check_digest("job=1,federation=2", call.digest)
    if not isinstance(call, (m.Diagnose, m.ProveIdentity)):
        Log().record(control_record("received", COORDINATOR, call_key(call), call, SALT))


def _as_grpc_hands_out(raw: bytes, proto_type: Any) -> Any:
    """A reply, or None where it cannot be read: gRPC's clients raise nothing then."""
    return grpc_common.deserialize(raw, proto_type.FromString)


class _Answering:
    """A method of a stub whose answer is known."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    async def __call__(self, *_: object, **__: object) -> Any:
        return self._answer


@cache
def _control_client() -> ControlClient:
    async def made() -> ControlClient:
        return ControlClient("127.0.0.1:1", ACTIVE, None, Log())

    return loop().run_until_complete(made())


@fuzz_target(lambda: _encoded(REPLIES))
def control_reply(data: bytes) -> None:
    """A party's reply to the coordinator; the first byte says to which call."""
    reply_type = type(REPLIES[data[0] % len(REPLIES)]) if data else m.Prepared
    reply = _as_grpc_hands_out(data[1:], PROTO_TYPES[reply_type])
    answered = _control_client()._call(_Answering(reply), m.Finish("job@1", JOB, 0), reply_type, 1.0)
    loop().run_until_complete(answered)


@cache
def _peer_client() -> PeerClient:
    async def made() -> PeerClient:
        return PeerClient("127.0.0.1:1", ACTIVE, None)

    return loop().run_until_complete(made())


@fuzz_target(lambda: [data_pb2.Receipt(received_bytes=3).SerializeToString()])
def receipt(data: bytes) -> None:
    """A party's answer to a data message."""
    reply = _as_grpc_hands_out(data, data_pb2.Receipt)
    loop().run_until_complete(_peer_client().result(_Answering(reply)(), "deliver", 1.0))


@fuzz_target(lambda: [to_proto(DIAGNOSIS).SerializeToString()])
def diagnosis(data: bytes) -> None:
    """A party's answer to ``vfl doctor``."""
    reply = _as_grpc_hands_out(data, doctor_pb2.DiagnoseReply)
    read_diagnosis(reply, ACTIVE, federation())


# --- what travels beside messages ---

_STATUS_CODES = tuple(grpc.StatusCode)


def _statuses() -> Iterator[bytes]:
    for error in (m.Failure(PASSIVE, "data", "no rows", "export it"), m.Failure(ACTIVE, "x", "\x1b[2J", "")):
        texts = (error.code, error.party, error.summary, error.remedy, "details", "vfl-other")
        yield b"\x09" + framed(text.encode() for text in texts)
    yield from (bytes((number,)) for number in range(len(_STATUS_CODES)))


@fuzz_target(_statuses)
def error_status(data: bytes) -> None:
    """The status and trailing metadata that a call ended with."""
    code, party, summary, remedy, details, other = frame(data[1:], 6)
    metadata = grpc.aio.Metadata(
        ("vfl-code", code.decode("latin1")),
        ("vfl-party", party.decode("latin1")),
        ("vfl-summary-bin", summary),
        ("vfl-remedy-bin", remedy),
        (other.decode("latin1"), other),
    )
    status = _STATUS_CODES[(data[0] if data else 0) % len(_STATUS_CODES)]
    rpc_error = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), metadata, details.decode(errors="replace"))
    error = from_rpc_error(rpc_error, Call(ACTIVE, "127.0.0.1:1", "prepare", 1.0))
    to_status(error, ACTIVE)
    failure = as_failure(error, ACTIVE)
    Log().record(control_record("received", ACTIVE, KEY, failure, SALT))


@fuzz_target(lambda: [framed([b"vfl-audit-salt-bin", fresh_salt()]), framed([b"vfl-audit-salt-bin", b"short"])])
def call_metadata(data: bytes) -> None:
    """The metadata of a call: the salt of its digest."""
    name, value = frame(data, 2)
    key = name.decode("latin1")
    received_salt(Context(((key, value if key.endswith("-bin") else value.decode("latin1")),)))
