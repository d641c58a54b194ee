"""How long a party waits for a coordinator that does not call."""

from __future__ import annotations

from vfl.errors import PeerUnreachable
from vfl.job.tables import HEARTBEAT_SECONDS, TimeoutConfig
from vfl.party.service.attempt import Attempt


def coordinator_timeout(timeouts: TimeoutConfig, job: Attempt | None) -> float:
    """Seconds without any call after which the party gives up on the coordinator."""
    if job is None:
        # The coordinator may start this much later than this party, then wait just as long for the others.
        return 2 * timeouts.connect
    # The coordinator gives up after timeouts.reconnect and says why; that should arrive before this timeout ends.
    # The coordinator calls at least once a second; one or two of these calls may be late.
    return timeouts.reconnect + max(timeouts.heartbeat, 3 * HEARTBEAT_SECONDS)


def coordinator_lost(seconds: float, job: Attempt | None) -> PeerUnreachable:
    """The error of a party whose coordinator was silent for so long."""
    if job is None:
        return PeerUnreachable(
            f"the coordinator did not call within {seconds:g} s before a run began",
            remedy="start the coordinator with 'vfl run'",
        )
    return PeerUnreachable(
        f"the coordinator did not call within {seconds:g} s after {job.where}",
        remedy="check its log for why it stopped; 'vfl run --resume' continues from the last checkpoint",
    )
