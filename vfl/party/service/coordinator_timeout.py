"""How long a party waits for a coordinator that does not call."""

from __future__ import annotations

from vfl.errors import PeerUnreachable
from vfl.job.config import HEARTBEAT_SECONDS, TimeoutConfig
from vfl.party.service.attempt import Attempt


def coordinator_timeout(timeouts: TimeoutConfig, job: Attempt | None) -> float:
    """Seconds without any call after which the coordinator is given up."""
    if job is None:
        # The coordinator may start this much later than this party, and then wait as long for the others.
        return 2 * timeouts.connect
    # The coordinator gives up after the first, and says why: that should reach the party before its own timeout ends.
    # It calls at least once a second, and one or two of these calls may be late.
    return timeouts.reconnect + max(timeouts.heartbeat, 3 * HEARTBEAT_SECONDS)


def coordinator_lost(seconds: float, job: Attempt | None) -> PeerUnreachable:
    """What a party ends with whose coordinator was silent for so long."""
    if job is None:
        return PeerUnreachable(
            f"the coordinator did not call within {seconds:g} s before a job began",
            remedy="start the coordinator with 'vfl run'",
        )
    return PeerUnreachable(
        f"the coordinator did not call within {seconds:g} s after {job.where}",
        remedy="look into its log for why it stopped; 'vfl run --resume' goes on from the last checkpoint",
    )
