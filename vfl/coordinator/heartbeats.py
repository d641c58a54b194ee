"""Heartbeats: notices within seconds that a party is gone, and tells one that is slow from one that is stuck."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from vfl import messages as m
from vfl.coordinator.parties import PartyClients
from vfl.errors import DeadlineExceeded, PartyRestarted, PeerUnreachable, RemoteError
from vfl.ids import AttemptId
from vfl.job.callbacks import Callbacks
from vfl.job.config import HEARTBEAT_SECONDS, TimeoutConfig
from vfl.runtime.clock import loop_time
from vfl.transport.channels import ControlChannel

SHOWN_AFTER_SECONDS = 5.0
"""From when on it is worth a line that a party waits for another."""


class HeartbeatMonitor:
    """Watches the parties of one attempt of a job.

    Args:
        parties: all of which are asked to prepare the attempt now.
        attempt: which one.
        timeouts: ``heartbeat`` and ``progress`` are for here.
        callbacks: notified of who waits for whom.
    """

    def __init__(
        self,
        parties: PartyClients,
        attempt: AttemptId,
        timeouts: TimeoutConfig,
        callbacks: Callbacks,
    ) -> None:
        self._parties = parties
        self._attempt = attempt
        self._timeouts = timeouts
        self._callbacks = callbacks
        self._begun: set[str] = set()
        self._progress = dict.fromkeys(parties, -1)
        self._got_on = dict.fromkeys(parties, loop_time())
        self._at_work_since = dict(self._got_on)
        self._shown: dict[str, float] = {}

    async def watch(self) -> NoReturn:
        """Ask every party every second, for as long as nothing is wrong.

        Raises:
            PeerUnreachable: a party does not answer.
            DeadlineExceeded: a party answers and works, but makes no progress.
            RemoteError: a party has failed, or was started again and knows nothing of the job.
        """
        await asyncio.gather(*(self._watch(name, self._parties[name]) for name in self._parties))
        raise RuntimeError("watching ends with an error only")

    async def _watch(self, name: str, client: ControlChannel) -> NoReturn:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            call = m.Heartbeat(*self._attempt, self._progressing())
            try:
                alive = await client.heartbeat(call, self._timeouts.heartbeat)
            except DeadlineExceeded:
                raise PeerUnreachable(
                    f"{name} did not answer for {self._timeouts.heartbeat:g} s",
                    remedy=f"look whether {name} is stopped, overloaded or cut off",
                ) from None
            except RemoteError as error:
                # It is there; the call to prepare the attempt may still be on its way to it.
                if name in self._begun or error.remote_code != PartyRestarted.code:
                    raise
            else:
                self._begun.add(name)
                self._note(name, alive)

    def _progressing(self) -> tuple[str, ...]:
        since = loop_time() - 3 * HEARTBEAT_SECONDS
        return tuple(name for name, at in self._got_on.items() if at > since)

    def _note(self, name: str, alive: m.Alive) -> None:
        now = loop_time()
        if alive.progress != self._progress[name]:
            self._progress[name], self._got_on[name] = alive.progress, now
        # Who has nothing to do or waits for another is not stuck: the other is, and whoever waits gives up on it first.
        idle = not alive.doing or alive.waiting_for
        self._at_work_since[name] = now if idle else self._at_work_since[name]
        limit = 2 * self._timeouts.progress
        if now - max(self._got_on[name], self._at_work_since[name]) > limit:
            raise DeadlineExceeded(
                f"{name} made no progress with {alive.doing} for {limit:g} s",
                remedy=f"look into the log of {name} and at its machine, or raise timeouts.progress",
            )
        if alive.waiting_seconds > SHOWN_AFTER_SECONDS and now - self._shown.get(name, 0.0) > SHOWN_AFTER_SECONDS:
            self._shown[name] = now
            self._callbacks.event(
                "a party waits", party=name, waits_for=alive.waiting_for, seconds=round(alive.waiting_seconds)
            )
