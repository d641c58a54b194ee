"""Where replies of parties become values that the coordinator uses: nothing in them is believed unread.

A party may be broken or dishonest. What it says about itself is bounded here, and only the active party may report
losses, metrics and the certified constant.
"""

from __future__ import annotations

import math
import re
from typing import TypeVar

from vfl import messages as m
from vfl.configuration.federation import FederationConfig
from vfl.errors import ProtocolError
from vfl.ids import CheckpointId, Role, Split
from vfl.job.config import JobConfig
from vfl.models.config import ALONE, METRIC_RANGES
from vfl.runtime.foreign_text import printable
from vfl.transport.channels import ControlChannel

Reply = TypeVar("Reply", bound=m.ControlMessage)

LARGEST_COUNT = 2**53
"""Of rows, bytes, pieces of work: exact in every format in which results are written, and out of reach."""

MOST_CHECKPOINTS = 1000
LARGEST_LOSS = 1e12
_PROJECTION_ERROR = 1.05
"""The layers of the top are orthonormal only up to the convergence of their projection."""


class CheckedControl:
    """Implements ``ControlChannel`` for one party; a reply that cannot be true raises ProtocolError and names it.

    Args:
        client: the connection to the party.
        party: its name.
    """

    def __init__(self, client: ControlChannel, party: str, job: JobConfig, federation: FederationConfig) -> None:
        self._client = client
        self._party = party
        self._job = job
        self._federation = federation
        self._active = party == federation.active.name

    async def wait_ready(self, timeout: float) -> None:  # noqa: ASYNC109
        """See ``ControlChannel``, as for all that follow."""
        await self._client.wait_ready(timeout)

    async def offer(self, call: m.Offer) -> m.Offered:
        """Only an acknowledgment."""
        return self._named(await self._client.offer(call))

    async def prepare(self, call: m.Prepare) -> m.Prepared:
        """Party, role, numbers of rows, and a bounded number of checkpoints."""
        reply = self._named(await self._client.prepare(call))
        role = Role.ACTIVE if self._active else Role.PASSIVE
        self._require(reply.role is role, f"the role {reply.role}")
        self._counts(rows=reply.rows, dropped=reply.dropped)
        self._require(len(reply.checkpoints) <= MOST_CHECKPOINTS, "a number of checkpoints")
        for checkpoint in reply.checkpoints:
            self._identifies(checkpoint)
        return reply

    async def restore(self, call: m.Restore) -> m.Restored:
        """Only an acknowledgment."""
        return self._named(await self._client.restore(call))

    async def align(self, call: m.Align, timeout: float) -> m.Aligned:  # noqa: ASYNC109
        """Numbers of rows that fit together."""
        reply = await self._client.align(call, timeout)
        self._counts(rows=reply.rows, width=reply.width, **{str(split): n for split, n in reply.split_rows.items()})
        self._require(sum(reply.split_rows.values()) <= reply.rows, "more rows in its splits than in common")
        return reply

    async def begin(self, call: m.Begin) -> m.Begun:
        """Only an acknowledgment."""
        return self._named(await self._client.begin(call))

    async def run_phase(self, call: m.PhaseCall) -> m.PhaseReport:
        """Seconds, bytes and, from the active party, a loss."""
        reply = await self._client.run_phase(call)
        self._counts(bytes_sent=reply.bytes_sent, bytes_received=reply.bytes_received)
        self._in_range("seconds", reply.seconds, 0.0, LARGEST_COUNT)
        for name, value in self._of_active(reply.metrics):
            self._require(name == "loss", f"the unknown metric '{printable(name)}'")
            self._in_range(name, value, 0.0, LARGEST_LOSS)
        return reply

    async def score(self, call: m.Score) -> m.Scored:
        """Known metrics within their ranges."""
        reply = await self._client.score(call)
        for name, value in self._of_active(reply.metrics):
            plain = name.removeprefix(ALONE) if call.split is Split.TEST else name
            self._require(plain in METRIC_RANGES, f"the unknown metric '{printable(name)}'")
            self._in_range(name, value, *METRIC_RANGES[plain])
        return reply

    async def checkpoint(self, call: m.Checkpoint) -> m.Checkpointed:
        """A checkpoint of the step and attempt of the call."""
        reply = await self._client.checkpoint(call)
        made = reply.checkpoint.step, reply.checkpoint.attempt
        self._require(made == (call.key.step, call.key.attempt), f"the checkpoint of another step: {made[0]}")
        self._identifies(reply.checkpoint)
        return reply

    async def commit(self, call: m.Commit) -> m.Committed:
        """Only an acknowledgment."""
        return self._named(await self._client.commit(call))

    async def heartbeat(self, call: m.Heartbeat, timeout: float) -> m.Alive:  # noqa: ASYNC109
        """Counts, times and the name of a party."""
        reply = self._named(await self._client.heartbeat(call, timeout))
        self._counts(progress=reply.progress)
        self._in_range("waiting_seconds", reply.waiting_seconds, 0.0, LARGEST_COUNT)
        known = reply.waiting_for in ("", *self._federation.names)
        self._require(known, f"that it waits for '{printable(reply.waiting_for)}', which is no party")
        return m.Alive(reply.party, printable(reply.doing), reply.progress, reply.waiting_for, reply.waiting_seconds)

    async def abort(self, call: m.Abort, timeout: float) -> None:  # noqa: ASYNC109
        """Has no reply."""
        await self._client.abort(call, timeout)

    async def finish(self, call: m.Finish) -> m.Finished:
        """Counts and, from the active party, the certified constant, which is at most that of the job."""
        reply = self._named(await self._client.finish(call))
        self._counts(sent=reply.bytes_sent, received=reply.bytes_received, memory=reply.peak_memory_bytes)
        most = self._job.top.lipschitz * _PROJECTION_ERROR if self._active else 0.0
        self._in_range("certified_lipschitz", reply.certified_lipschitz, 0.0, most)
        return reply

    async def release(self, call: m.Release, timeout: float) -> m.Released:  # noqa: ASYNC109
        """Only an acknowledgment."""
        return self._named(await self._client.release(call, timeout))

    # --- checks ---

    def _named(self, reply: Reply) -> Reply:
        said = getattr(reply, "party", "")
        self._require(said == self._party, f"that it is '{printable(said)}'")
        return reply

    def _identifies(self, checkpoint: CheckpointId) -> None:
        self._counts(step=checkpoint.step, attempt=checkpoint.attempt)
        is_digest = re.fullmatch(r"[0-9a-f]{64}", checkpoint.digest)
        self._require(is_digest is not None, f"a checkpoint with the digest '{printable(checkpoint.digest)}'")

    def _of_active(self, metrics: dict[str, float]) -> list[tuple[str, float]]:
        self._require(self._active or not metrics, "metrics, which only the active party may publish")
        return list(metrics.items())

    def _counts(self, **counts: int) -> None:
        for name, count in counts.items():
            self._require(0 <= count <= LARGEST_COUNT, f"an impossible number ({name})")

    def _in_range(self, name: str, value: float, low: float, high: float) -> None:
        self._require(math.isfinite(value) and low <= value <= high, f"{name} {value:g}, which is out of its range")

    def _require(self, holds: bool, reported: str) -> None:
        if not holds:
            raise ProtocolError(
                f"{self._party} reported {reported}",
                remedy=f"check that {self._party} runs the same version of vfl; if it does, ask its operator why",
            )
