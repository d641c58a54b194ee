"""Gives each attempt the role that does its work, with everything that the role needs."""

from __future__ import annotations

from collections.abc import Mapping

from vfl.he.pool import Pools
from vfl.ids import Role
from vfl.party.config import PartySetup
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.peers.idle_work import IdleWork
from vfl.party.roles.common import PartyContext
from vfl.party.roles.passive import PassiveParty
from vfl.party.roles.worker import RoleWorker
from vfl.party.service.attempt import Attempt
from vfl.pki.credentials import Credentials
from vfl.runtime.background import together
from vfl.transport.channels import PeerChannel
from vfl.transport.inbox import Inbox
from vfl.transport.wire.limits import MEBIBYTE


class RoleFactory:
    """Creates the role for each attempt, with its own pools of random material.

    Args:
        clients: a connection to each peer.
        inbox: where the peers' messages arrive.
        credentials: the party's; None only with ``insecure-loopback``.
    """

    def __init__(
        self,
        setup: PartySetup,
        clients: Mapping[str, PeerChannel],
        inbox: Inbox,
        credentials: Credentials | None,
    ) -> None:
        self._setup = setup
        self._clients = clients
        self._inbox = inbox
        self._credentials = credentials
        self._idle: IdleWork | None = None
        self._context: PartyContext | None = None

    async def reach_peers(self) -> None:
        """Wait for the connections to all peers: a peer that was gone may return before its connection does."""
        seconds = self._setup.job.timeouts.heartbeat
        await together(*(client.wait_ready(seconds) for client in self._clients.values()))

    def give_role(self, attempt: Attempt) -> None:
        """Give the attempt its role. Blocks while keys are generated and, the first time, libraries are imported."""
        setup = self._setup
        self.close()
        pools = Pools(setup.config.pool_memory_mb * MEBIBYTE)
        self._idle = IdleWork(pools)
        encrypted = setup.job.interaction.protocol == "encrypted"
        mail = ExchangeDriver(
            setup.name, self._clients, self._inbox, self._idle, setup.job.timeouts.progress, encrypted=encrypted
        )
        self._context = PartyContext(setup, mail, pools, self._credentials)
        self._context.attempts, self._context.interruptions = attempt.number + 1, attempt.interruptions
        attempt.accept(self._make_role(self._context), mail)

    def _make_role(self, context: PartyContext) -> RoleWorker:
        if self._setup.entry.role is Role.PASSIVE:
            return PassiveParty(context)
        from vfl.party.roles.active import ActiveParty  # the metrics it needs take seconds and much memory to import

        return ActiveParty(context)

    def close(self) -> None:
        """Stop all background work, and close what is open."""
        if self._context is not None:
            self._context.disclosure.close()
        if self._idle is not None:
            self._idle.close()
