"""A process with a member's certificate that does its worst to other parties, or spins, with a bounded processor share.

``python -m benchmarks.worst_member.attacker PARTY_FILE VICTIM ...`` reads lines ``attack SECONDS SHARE`` and
``spin SECONDS SHARE`` and answers each with a line of JSON: the share that it really used, and what it did.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from vfl import messages as m
from vfl.configuration.federation import parse_endpoint
from vfl.job.digests import job_digest, job_id
from vfl.party.config import PartySetup, load_party, party_credentials
from vfl.transport.tls.credentials import secure_channel
from vfl.transport.v1 import data_pb2
from vfl.transport.wire.control_codec import to_proto
from vfl.transport.wire.health import health_service_name
from vfl.transport.wire.recorder import fresh_salt, salt_metadata
from vfl.version import PROTOCOL_VERSION

CHANNELS, CALLERS, SENDERS, STREAMS = 4, 16, 8, 12
"""Per victim: connections with calls on them, calls at once, messages at once, streams that are begun and stall. Fewer
than the 64 that a member may have: its own honest process needs some, and would end the run with this member named."""
CONNECTIONS = 200
"""Connections per victim that say nothing, opened again when they are closed."""
MESSAGE_BYTES = 1 << 20
_PAUSE = 0.005
_RECONNECT_SECONDS = 0.2
_CONTROL, _HEALTH = "/vfl.transport.v1.Control/", "/grpc.health.v1.Health/"
_DELIVER, _DIAGNOSE = "/vfl.transport.v1.Data/Deliver", "/vfl.transport.v1.Doctor/Diagnose"


class Budget:
    """Keeps this process, with all its threads, at a share of one core."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._started, self._used = time.monotonic(), time.process_time()

    @property
    def used(self) -> float:
        """Share of one core used so far."""
        return (time.process_time() - self._used) / max(time.monotonic() - self._started, 1e-9)

    async def turn(self) -> None:
        """Return when there is something left to use."""
        await asyncio.sleep(0)
        while self.used > self._share:  # noqa: ASYNC110  # nobody tells when
            await asyncio.sleep(_PAUSE)


class Attack:
    """All of it at one victim.

    Args:
        setup: of the member whose certificate it uses.
        victim: name of the party.
        run: name of the run, which every member knows.
    """

    def __init__(self, setup: PartySetup, victim: str, run: str, budget: Budget) -> None:
        self._setup, self._victim, self._run, self._budget = setup, victim, run, budget
        self._endpoint = setup.federation.party(victim).endpoint or ""
        self.done: Counter[str] = Counter()
        self.is_over = False
        self._channels: list[Any] = []

    async def __call__(self) -> None:
        """Attack until canceled."""
        credentials = party_credentials(self._setup)
        assert credentials is not None  # noqa: S101  # the federation has certificates
        async with AsyncExitStack() as stack:
            for _ in range(CHANNELS):
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = secure_channel(credentials, self._endpoint, self._victim, options)
                self._channels.append(await stack.enter_async_context(channel))
            # First, since the connections below would stand in the way of its own, too.
            await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
            workers = [self._forever("calls", self._call) for _ in range(CALLERS)]
            workers += [self._forever("messages", self._message) for _ in range(SENDERS)]
            workers += [self._forever("streams", self._stall) for _ in range(STREAMS)]
            workers += [self._forever("connections", self._connect) for _ in range(CONNECTIONS)]
            await asyncio.gather(*workers)

    async def _forever(self, what: str, once: Callable[[], Awaitable[object]]) -> None:
        while not self.is_over:  # some libraries swallow a cancellation
            await self._budget.turn()
            try:
                await once()
            except (grpc.aio.AioRpcError, OSError):
                self.done[f"{what} refused"] += 1
            else:
                self.done[what] += 1

    async def _call(self) -> object:
        job, digest = (make(self._setup.job, self._setup.federation) for make in (job_id, job_digest))
        method, message = secrets.choice(
            (
                (f"{_CONTROL}Prepare", to_proto(m.Prepare(job, "another-run", 0, digest, PROTOCOL_VERSION))),
                (f"{_CONTROL}Abort", to_proto(m.Abort(job, self._run, 0, "coordinator", "data", "x" * 500))),
                (f"{_CONTROL}Heartbeat", to_proto(m.Heartbeat(job, self._run, 0))),
                (_DIAGNOSE, to_proto(m.Diagnose(probe_peers=False, digest=digest))),
                (f"{_HEALTH}Check", None),
            )
        )
        name = health_service_name(self._victim).encode()
        content = bytes((10, len(name))) + name if message is None else message.SerializeToString()
        return await secrets.choice(self._channels).unary_unary(method)(content, timeout=10)

    def _header(self, run: str, step: int) -> data_pb2.Chunk:
        spec = data_pb2.TensorSpec(name="sh_z_BK", dtype="int64", shape=(MESSAGE_BYTES // 16, 2))
        header = data_pb2.Header(
            protocol_version=1, run=run, step=step, attempt=0, kind="forward_share", sender=self._setup.name,
            receiver=self._victim, tensors=[spec], total_bytes=MESSAGE_BYTES,
            part=(1 << 15) + secrets.randbelow(1 << 15),
        )  # fmt: skip
        return data_pb2.Chunk(header=header)

    async def _message(self) -> object:
        """A whole message that nobody asked for: of this run or another, of steps that are due, over, or far away."""
        run, step = secrets.choice((self._run, "another-run")), secrets.choice((1, 50, 1 << 30))

        async def chunks() -> AsyncIterator[bytes]:
            yield self._header(run, step).SerializeToString()
            yield data_pb2.Chunk(payload=bytes(MESSAGE_BYTES)).SerializeToString()

        call = secrets.choice(self._channels).stream_unary(_DELIVER)
        return await call(chunks(), timeout=10, metadata=salt_metadata(fresh_salt()))

    async def _stall(self) -> object:
        """A message that is announced and does not come."""

        async def chunks() -> AsyncIterator[bytes]:
            yield self._header("another-run", 1).SerializeToString()
            await asyncio.sleep(5)

        call = secrets.choice(self._channels).stream_unary(_DELIVER)
        return await call(chunks(), timeout=5, metadata=salt_metadata(fresh_salt()))

    async def _connect(self) -> None:
        host, port = parse_endpoint(self._endpoint)
        loop = asyncio.get_running_loop()
        with socket.socket() as connection:
            connection.setblocking(False)
            await asyncio.wait_for(loop.sock_connect(connection, (host, port)), 5)
            await loop.sock_recv(connection, 1)  # until it is closed
        await asyncio.sleep(_RECONNECT_SECONDS)


async def attack(setup: PartySetup, victims: list[str], seconds: float, share: float) -> dict[str, Any]:
    """Do the worst to all victims for some seconds."""
    logs = sorted(setup.config.audit.directory.glob("*.jsonl"))
    budget, run = Budget(share), logs[-1].name.partition(".")[0] if logs else "run"
    attacks = [Attack(setup, victim, run, budget) for victim in victims]
    tasks = [asyncio.create_task(each()) for each in attacks]
    await asyncio.sleep(seconds)
    for each, task in zip(attacks, tasks, strict=True):
        each.is_over = True
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return {"share": budget.used, "done": dict(sum((each.done for each in attacks), Counter()))}


def spin(seconds: float, share: float) -> dict[str, Any]:
    """Use the processor and nothing else."""
    budget, end = Budget(share), time.monotonic() + seconds
    while time.monotonic() < end:
        if budget.used > share:
            time.sleep(_PAUSE)
    return {"share": budget.used, "done": {}}


async def main() -> None:
    """See the module docstring. In one event loop, to which gRPC stays bound."""
    setup, victims = load_party(Path(sys.argv[1])), sys.argv[2:]
    while line := await asyncio.to_thread(sys.stdin.readline):
        what, seconds, share = line.split()
        if what == "attack":
            result = await attack(setup, victims, float(seconds), float(share))
        else:
            result = spin(float(seconds), float(share))
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
