"""The last calls of a run: all parties have saved and are released, or the run was stopped and they are told why."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from vfl import messages as m
from vfl.configuration.federation import FederationConfig
from vfl.coordinator.parties import PartyClients
from vfl.errors import WHAT_TO_DO, VflError, is_retryable
from vfl.ids import AttemptId
from vfl.job.callbacks import Callbacks
from vfl.runtime.background import together
from vfl.runtime.clock import loop_time

LAST_CALL_SECONDS = 5.0
"""How long to try to inform a party that the run was stopped."""

RELEASE_SECONDS = 30.0
"""The same when the run has finished: a party that is being restarted waits to be informed."""

LAST_CALL_RETRY_SECONDS = 0.2


async def release_all(
    parties: PartyClients, federation: FederationConfig, attempt: AttemptId, seconds: float, callbacks: Callbacks
) -> None:
    """Release all parties at the end of a run. All have saved, so an unreachable party is not a failure.

    Args:
        seconds: how long to try to reach a party, at most ``RELEASE_SECONDS``.
    """
    release = m.Release(*attempt)

    async def release_one(name: str) -> None:
        try:
            call = lambda: parties[name].release(release, LAST_CALL_SECONDS)  # noqa: E731
            await _repeated(call, min(RELEASE_SECONDS, seconds))
        except VflError as error:
            callbacks.event("a party could not be informed that the run is over", party=name, reason=error.summary)

    # A party's process ends after its reply, and with it the route to the parties reached through it.
    for outbound in (True, False):
        names = [party.name for party in federation.parties if bool(party.via) == outbound]
        await together(*(release_one(name) for name in names))


async def abort_all(
    parties: PartyClients, coordinator: str, attempt: AttemptId, error: VflError, *, connected: bool
) -> None:
    """Inform every party why the run is over; unreachable parties are skipped.

    Args:
        connected: whether all parties were connected before: one that is gone is not expected back now, while one that
            is still starting may be ready at any moment.
    """
    reason = f"{error.summary}. {WHAT_TO_DO}{error.remedy}" if error.remedy else error.summary
    abort = m.Abort(*attempt, coordinator, error.code, reason)
    seconds = 0.0 if connected else LAST_CALL_SECONDS

    async def abort_one(name: str) -> None:
        await _repeated(lambda: parties[name].abort(abort, LAST_CALL_SECONDS), seconds)

    await asyncio.gather(*(abort_one(name) for name in parties), return_exceptions=True)


async def _repeated(call: Callable[[], Awaitable[object]], seconds: float) -> None:
    """Call a party until it answers, for at most this many seconds.

    Raises:
        VflError: the error of the last attempt.
    """
    deadline = loop_time() + seconds
    while True:
        try:
            await call()
        except VflError as error:
            if not is_retryable(error) or loop_time() >= deadline:
                raise
        else:
            return
        await asyncio.sleep(LAST_CALL_RETRY_SECONDS)
