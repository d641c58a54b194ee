"""The coordinator's calls to one party."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from vfl import messages as m
from vfl.errors import AuditError
from vfl.transport.client.connection import Connection
from vfl.transport.v1 import control_pb2_grpc
from vfl.transport.wire.control_codec import from_proto, to_proto
from vfl.transport.wire.recorder import (
    Direction,
    call_key,
    fresh_salt,
    salt_metadata,
)

ReplyT = TypeVar("ReplyT", bound=m.ControlMessage)


class ControlClient(Connection):
    """The coordinator's calls to one party.

    Every method raises RemoteError (the party's own error), PeerUnreachable (it went away), AccessDenied or
    MismatchError (gRPC itself was refused); those with a ``timeout`` raise DeadlineExceeded after that many seconds.
    The others wait as long as the call takes, since heartbeats check whether the party makes progress.
    """

    def _method(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(request: Any, timeout: float | None, metadata: Any = None) -> Any:  # noqa: ASYNC109
            channel = await self.channel(timeout)
            stub = control_pb2_grpc.ControlStub(channel)  # type: ignore[no-untyped-call]  # generated
            return await getattr(stub, name)(request, timeout=timeout, metadata=metadata)

        return call

    async def offer(self, call: m.Offer) -> m.Offered:
        """Serve the coordinator's job in place of the one in the party's file."""
        return await self._call(self._method("Offer"), call, m.Offered)

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Get ready for a run."""
        return await self._call(self._method("Prepare"), call, m.Prepared)

    async def restore(self, call: m.Restore) -> m.Restored:
        """Load a checkpoint, to resume from it."""
        return await self._call(self._method("Restore"), call, m.Restored)

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Find the common ids, exchange keys, build the models; or only count the common ids."""
        return await self._call(self._method("Align"), call, m.Aligned, timeout)

    async def begin(self, call: m.Begin) -> m.Begun:
        """Agree on initial weights."""
        return await self._call(self._method("Begin"), call, m.Begun)

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Do one phase of one step."""
        return await self._call(self._method("RunPhase"), call, m.PhaseReport, what=call.phase.value)

    async def score(self, call: m.Score) -> m.Scored:
        """Compute metrics."""
        return await self._call(self._method("Score"), call, m.Scored)

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """Save the state after a step."""
        return await self._call(self._method("Checkpoint"), call, m.Checkpointed)

    async def commit(self, call: m.Commit) -> m.Committed:
        """Report that all parties have written their checkpoint."""
        return await self._call(self._method("Commit"), call, m.Committed)

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """Ask whether the party is alive and makes progress. Not recorded: heartbeats have no content and no end."""
        request = self._method("Heartbeat")(to_proto(call), timeout=timeout)
        return from_proto(await self.result(request, call.kind, timeout), m.Alive)

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Stop the run; sent even if it cannot be recorded, since a full disk must not leave the others waiting."""
        salt = fresh_salt()
        with contextlib.suppress(AuditError):
            self.record_control(Direction.SENT, call_key(call), call, salt)
        await self._send(self._method("Abort"), call, timeout, call.kind, salt)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Save the party's part of the model."""
        return await self._call(self._method("Finish"), call, m.Finished)

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """Report that the run is over."""
        return await self._call(self._method("Release"), call, m.Released, timeout)

    async def _call(
        self,
        method: Any,
        call: m.ControlMessage,
        reply_type: type[ReplyT],
        timeout: float | None = None,  # noqa: ASYNC109
        what: str = "",
    ) -> ReplyT:
        salt = fresh_salt()
        proto = await self._ask(method, call, timeout, what or call.kind, salt)
        reply = from_proto(proto, reply_type)
        self.record_control(Direction.RECEIVED, call_key(call), reply, salt)
        return reply

    async def _ask(self, method: Any, call: m.ControlMessage, timeout: float | None, what: str, salt: bytes) -> Any:  # noqa: ASYNC109
        self.record_control(Direction.SENT, call_key(call), call, salt)
        return await self._send(method, call, timeout, what, salt)

    async def _send(self, method: Any, call: m.ControlMessage, timeout: float | None, what: str, salt: bytes) -> Any:  # noqa: ASYNC109
        request = method(to_proto(call), timeout=timeout, metadata=salt_metadata(salt))
        return await self.recorded_result(request, what, timeout, call_key(call), salt)
