"""A party's side of the alignment: which of its rows all parties have in common."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.align.protocol import Alignment
from vfl.align.sets import BlindedIds
from vfl.errors import AlignmentError, PolicyRefusal
from vfl.ids import StepKey
from vfl.messages.exchange import Exchange
from vfl.party.config import PartySetup
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.party.roles.rows.id_forms import oddities
from vfl.runtime.logs import get_logger

_log = get_logger("vfl.party")

Result = TypeVar("Result")

_MOST = 0.8
"""Share of a party's rows; below it, the way in which ids are written is worth a warning."""


class CommonIds:
    """Finds the common ids of one run. Blinded ids are kept for later attempts.

    Args:
        setup: the party's validated files.
        mail: runs the exchanges.
    """

    def __init__(self, setup: PartySetup, mail: ExchangeDriver) -> None:
        self._setup = setup
        self._mail = mail
        self._blinded: BlindedIds | None = None

    async def count(self, ids: pl.Series, key: StepKey) -> int:
        """How many ids all parties have in common; nobody learns which.

        Raises:
            PolicyRefusal: there are too few for this party.
        """
        async with self._alignment(ids, key) as alignment:
            return await self._count(alignment, ids, key)

    async def find(self, ids: pl.Series, key: StepKey) -> npt.NDArray[np.int64]:
        """Positions of the common ids. They are revealed only if every party accepts their number.

        Raises:
            PolicyRefusal: there are too few for this party.
        """
        async with self._alignment(ids, key) as alignment:
            await self._count(alignment, ids, key)
            return await self._run(alignment.reveal(), key, "finding the common ids")

    async def _count(self, alignment: Alignment, ids: pl.Series, key: StepKey) -> int:
        """The number of common ids. What may be odd about this party's own ids is for its operator only."""
        if odd := oddities(ids):
            _log.info("how the ids of this party are written", rows=len(ids), ids="; ".join(odd))
        try:
            common = await self._run(alignment.count(), key, "counting the common ids")
        except (AlignmentError, PolicyRefusal) as error:
            if odd:
                error.detail = f"{error.detail}\nof the {len(ids)} ids of this party, {'; '.join(odd)}".strip()
            raise
        if odd and common < _MOST * len(ids):
            _log.warning("few rows have an id that all parties have", rows=len(ids), common=common, ids="; ".join(odd))
        return common

    async def _run(self, exchange: Exchange[Result], key: StepKey, purpose: str) -> Result:
        """Run an alignment exchange; a message may take as long as the slowest party needs for the longest list."""
        return await self._mail.run(exchange, key, purpose, self._setup.job.timeouts.alignment)

    @asynccontextmanager
    async def _alignment(self, ids: pl.Series, key: StepKey) -> AsyncIterator[Alignment]:
        """An alignment whose helper processes end with it."""
        setup = self._setup
        parties = (setup.federation.active.name, *(party.name for party in setup.federation.passives))
        if self._blinded is None:
            processes = setup.config.threads or os.cpu_count() or 1
            self._blinded = await asyncio.to_thread(BlindedIds, ids, key.run, processes)
        try:
            yield Alignment(parties, setup.name, self._blinded, setup.config.policy.check_rows)
        finally:
            await asyncio.to_thread(self._blinded.close)
