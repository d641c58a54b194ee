"""A member of the federation that does what no honest party does: hand-made calls with a valid certificate."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import numpy as np

from support.federations.federation import COORDINATOR, ID_PREFIX, Federation
from vfl import messages as m
from vfl.configuration.toml_files import load_toml
from vfl.coordinator.config import CoordinatorConfig
from vfl.ids import StepKey
from vfl.job.digests import job_digest, job_id
from vfl.job.schedule import Due, Schedule
from vfl.messages import Message
from vfl.party.config import load_party, party_credentials
from vfl.pki.credentials import Credentials
from vfl.transport.client import ControlClient
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.v1 import data_pb2
from vfl.transport.wire.data_codec import encode_payload
from vfl.transport.wire.limits import MEBIBYTE
from vfl.transport.wire.recorder import fresh_salt, salt_metadata
from vfl.version import PROTOCOL_VERSION

JOB, ATTEMPT, SECONDS = "job-1", 1, 60.0
_DELIVER = "/vfl.transport.v1.Data/Deliver"
_NO_LIMIT = [(f"grpc.max_{way}_message_length", 64 * MEBIBYTE) for way in ("send", "receive")]


@dataclass(frozen=True)
class Answer:
    """What came back: gRPC's code, and all the text of the status and its metadata."""

    code: grpc.StatusCode
    text: str

    @property
    def accepted(self) -> bool:
        return self.code is grpc.StatusCode.OK


def credentials_of(federation: Federation, name: str) -> Credentials:
    if name == COORDINATOR:
        tls = load_toml(federation.path(name, "coordinator.toml"), CoordinatorConfig).tls
        assert tls is not None
        return Credentials(tls, load_party(federation.path(federation.names[0])).federation, name)
    made = party_credentials(load_party(federation.path(name)))
    assert made is not None
    return made


class Member:
    """Hand-made messages of one party to another."""

    def __init__(self, channel: Any, name: str, receiver: str) -> None:
        self.channel = channel
        self.name = name
        self.receiver = receiver
        self._begun: list[asyncio.Task[Answer]] = []

    def header(self, message: Message | None = None, /, **changes: Any) -> data_pb2.Header:
        """Of a share of Z for step 2, or of another message; right but for ``changes``."""
        message = message or share()
        declared: dict[str, Any] = {
            "protocol_version": 1,
            "run": JOB,
            "step": 2,
            "attempt": ATTEMPT,
            "kind": message.kind,
            "sender": self.name,
            "receiver": self.receiver,
            "total_bytes": sum(array.nbytes for array in message.tensors().values()),
            "tensors": [
                data_pb2.TensorSpec(name=name, dtype=array.dtype.name, shape=array.shape)
                for name, array in message.tensors().items()
            ],
        }
        return data_pb2.Header(**declared | changes)

    async def send(self, message: Message | None = None, /, **changes: Any) -> Answer:
        """A message that is whole but for what ``changes`` say of its header."""
        message = message or share()
        header = data_pb2.Chunk(header=self.header(message, **changes))
        return await self.stream([header, *encode_payload(message)])

    async def stream(
        self, chunks: Iterable[Any] | AsyncIterator[Any], seconds: float = 20.0, metadata: Any = None
    ) -> Answer:
        """Chunks, or bytes that are none."""
        method = self.channel.stream_unary(_DELIVER, request_serializer=_serialized)
        salt = salt_metadata(fresh_salt()) if metadata is None else metadata
        call = method(chunks, timeout=seconds, metadata=salt)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            extra = " ".join(f"{key}={value!r}" for key, value in error.trailing_metadata() or ())
            return Answer(error.code(), f"{error.details()} {extra}")
        return Answer(grpc.StatusCode.OK, "")

    def begin(self, *chunks: Any) -> None:
        """A stream that begins so and then says nothing more, until this member is gone."""

        async def stalling() -> AsyncIterator[Any]:
            for chunk in chunks:
                yield chunk
            await asyncio.sleep(SECONDS)

        self._begun.append(asyncio.create_task(self.stream(stalling(), SECONDS)))

    async def begun(self) -> list[Answer]:
        """What came back for the streams that were begun."""
        ended, self._begun = self._begun, []
        return await asyncio.gather(*ended)

    async def give_up(self) -> None:
        for task in self._begun:
            task.cancel()
        await asyncio.gather(*self._begun, return_exceptions=True)


def _serialized(chunk: Any) -> bytes:
    return chunk if isinstance(chunk, bytes) else chunk.SerializeToString()


def share(rows: int = 3, fill: int = 0) -> m.ForwardShare:
    return m.ForwardShare(np.full((rows, 2), fill, dtype=np.int64))


@asynccontextmanager
async def member(federation: Federation, name: str, receiver: str) -> AsyncIterator[Member]:
    """A connection of one party to another, with its real certificate."""
    channel = secure_channel(
        credentials_of(federation, name),
        f"127.0.0.1:{federation.port(receiver)}",
        receiver,
        [*_NO_LIMIT, ("grpc.use_local_subchannel_pool", 1)],
    )
    async with channel:
        made = Member(channel, name, receiver)
        try:
            yield made
        finally:
            await made.give_up()


class Steps:
    """A coordinator that is led by hand, along the schedule of the job.

    Attributes:
        step: the latest that was done.
    """

    def __init__(self, federation: Federation, clients: dict[str, ControlClient]) -> None:
        self._federation = federation
        self._clients = clients
        self._by_step: dict[int, list[Due]] = {}
        self.step = 0

    async def begin(self) -> None:
        """Up to and with the first training step."""
        setup = load_party(self._federation.path(self._federation.names[0]))
        digest = job_digest(setup.job, setup.federation)
        self._job = job_id(setup.job, setup.federation)
        await self._all(lambda c: c.prepare(m.Prepare(self._job, JOB, ATTEMPT, digest, PROTOCOL_VERSION)))
        aligned, *_ = await self._all(lambda c: c.align(m.Align(self._job, JOB, ATTEMPT, False), SECONDS))
        await self._all(lambda c: c.begin(m.Begin(self._job, JOB, ATTEMPT)))
        for due in Schedule(setup.job, aligned.split_rows).calls(0):
            self._by_step.setdefault(due.step, []).append(due)
        await self.train(1)

    async def train(self, step: int) -> None:
        """Everything of a step, the next one."""
        self.step = step
        for due in self._by_step[step]:
            await self._do(due)

    async def finish(self) -> None:
        """The rest of the schedule, and the end."""
        while self.step < max(self._by_step):
            await self.train(self.step + 1)
        await self._all(lambda c: c.finish(m.Finish(self._job, JOB, ATTEMPT)))
        await self._all(lambda c: c.release(m.Release(self._job, JOB, ATTEMPT), SECONDS))

    async def _do(self, due: Due) -> None:
        if due.phase is None:
            score = m.Score(self._job, JOB, ATTEMPT, due.batch.split, due.batch.epoch)
            await self._clients[self._federation.names[0]].score(score)
            return
        call = m.PhaseCall(self._job, StepKey(JOB, due.step, ATTEMPT), due.phase, due.batch)
        await self._all(lambda c: c.run_phase(call))

    async def abort(self, code: str, reason: str) -> None:
        await self._all(lambda c: c.abort(m.Abort(self._job, JOB, ATTEMPT, COORDINATOR, code, reason), SECONDS))

    async def _all(self, call: Callable[[ControlClient], Awaitable[Any]]) -> list[Any]:
        return await asyncio.gather(*(call(client) for client in self._clients.values()))


def assert_nothing_private(federation: Federation, text: str) -> None:
    """No id, no path, no stack trace, no object of Python in what crossed."""
    for private in (ID_PREFIX, str(federation.folder), "Traceback", 'File "', ".py", "/tmp", "/home"):  # noqa: S108
        assert private not in text, (private, text)
    assert not re.search(r"0x[0-9a-f]{6,}|StepKey|Address\(", text), text
