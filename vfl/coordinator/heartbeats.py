"""Heartbeats: detect within seconds that a party is gone, and distinguish a slow party from a stuck one."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from vfl import messages as m
from vfl.coordinator.parties import PartyClients
from vfl.errors import DeadlineExceeded, MismatchError, PartyRestarted, PeerUnreachable, RemoteError
from vfl.ids import AttemptId
from vfl.job.callbacks import Callbacks
from vfl.job.tables import HEARTBEAT_SECONDS, TimeoutConfig
from vfl.runtime.background import together
from vfl.runtime.clock import loop_time
from vfl.transport.channels import ControlChannel

SHOWN_AFTER_SECONDS = 5.0
"""How long a party waits for another before the wait is reported, and how often it is reported."""

_NOT_BEGUN = {PartyRestarted.code, MismatchError.code}
"""What a party answers that does not know the run yet, or still serves the job of its own file."""


class HeartbeatMonitor:
    """Watches the parties of one attempt of a job.

    Args:
        parties: all are being asked to prepare the attempt.
        attempt: the attempt to watch.
        timeouts: ``heartbeat`` and ``progress`` are used here.
        callbacks: notified of which party waits for which.
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
        self._last_progress = dict.fromkeys(parties, loop_time())
        self._working_since = dict(self._last_progress)
        self._shown: dict[str, float] = {}
        self._idle_since: dict[str, float] = {}

    async def watch(self) -> NoReturn:
        """Query every party once a second until something is wrong.

        Raises:
            PeerUnreachable: a party does not answer.
            DeadlineExceeded: a party answers, but makes no progress, or does not begin what it was asked for.
            RemoteError: a party has failed, or was restarted and does not know the run.
        """
        await together(*(self._watch(name, self._parties[name]) for name in self._parties))
        raise RuntimeError("watching must end with an error")

    async def _watch(self, name: str, client: ControlChannel) -> NoReturn:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            call = m.Heartbeat(*self._attempt, self._progressing())
            try:
                alive = await client.heartbeat(call, self._timeouts.heartbeat)
            except DeadlineExceeded:
                raise PeerUnreachable(
                    f"{name} did not answer for {self._timeouts.heartbeat:g} s",
                    remedy=f"check whether {name} is stopped, overloaded or disconnected",
                ) from None
            except RemoteError as error:
                # The party is up; the call to prepare the attempt may still be in transit, or the offer of its job.
                if name in self._begun or error.remote_code not in _NOT_BEGUN:
                    raise
                self._check_begins(name)
            else:
                self._begun.add(name)
                if not alive.doing:
                    self._check_begins(name)
                else:
                    self._idle_since.pop(name, None)
                self._note(name, alive)

    def _check_begins(self, name: str) -> None:
        """Check that a party which works on nothing has not been asked for anything for long."""
        now, asked = loop_time(), self._parties.asked_since(name)
        if asked is None:
            self._idle_since.pop(name, None)
            return
        seconds, limit = now - max(asked, self._idle_since.setdefault(name, now)), self._timeouts.progress
        if seconds > limit:
            raise DeadlineExceeded(
                f"{name} answers, but did not begin what it was asked for within {limit:g} s",
                remedy=f"restart {name}; check its log, and that it runs the same version of vfl",
            )
        if seconds > SHOWN_AFTER_SECONDS and now - self._shown.get(name, 0.0) > SHOWN_AFTER_SECONDS:
            self._shown[name] = now
            self._callbacks.event(
                "a party answers, but has not begun what it was asked for",
                party=name,
                seconds=round(seconds),
                gives_up_after=limit,
            )

    def _progressing(self) -> tuple[str, ...]:
        since = loop_time() - 3 * HEARTBEAT_SECONDS
        return tuple(name for name, at in self._last_progress.items() if at > since)

    def _note(self, name: str, alive: m.Alive) -> None:
        now = loop_time()
        if alive.progress != self._progress[name]:
            self._progress[name], self._last_progress[name] = alive.progress, now
        # An idle or waiting party is not stuck: the one it waits for is, and the waiting party gives up on it first.
        asked = self._parties.asked_since(name)
        if asked is None or self._waits_for_another(name, alive.waiting_for):
            self._working_since[name] = now
        limit = 2 * self._timeouts.progress
        if now - max(self._last_progress[name], self._working_since[name], asked or now) > limit:
            raise DeadlineExceeded(
                f"{name} made no progress with {alive.doing} for {limit:g} s",
                remedy=f"check the log and the machine of {name}, or raise timeouts.progress",
            )
        if alive.waiting_seconds > SHOWN_AFTER_SECONDS and now - self._shown.get(name, 0.0) > SHOWN_AFTER_SECONDS:
            self._shown[name] = now
            self._callbacks.event(
                "a party is waiting", party=name, waiting_for=alive.waiting_for, seconds=round(alive.waiting_seconds)
            )

    def _waits_for_another(self, name: str, waiting_for: str) -> bool:
        """Whether a party can be waiting as it says: a party that has replied to everything has sent what it had to."""
        return waiting_for not in ("", name) and self._parties.asked_since(waiting_for) is not None
