"""Which aligned rows train, validate and test, where the active party chooses them by label or by time (ADR 0043).

How many rows each part has follows from the job, so that a receiver accepts no other numbers. Which rows they are is
drawn under the active party's private seed: the same in an equal run, and uniform to everybody else over all choices
with these numbers of rows of each class, or, by time, of rows at the border that have the same time.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from vfl.align.order import canonical_order
from vfl.checkpoints.store import Snapshot
from vfl.data.split import Parts, ordered_parts, split_rows, split_sizes, stratified_parts
from vfl.data.table import Table
from vfl.errors import ProtocolError
from vfl.ids import Role, Split, StepKey
from vfl.job.config import JobConfig
from vfl.messages import SplitMembership
from vfl.messages.exchange import Exchange, Send, check_shape, receive
from vfl.models.tasks.labels import clean_labels
from vfl.party.config import PartySetup
from vfl.party.learning.snapshots import split_of
from vfl.party.peers.exchange_driver import ExchangeDriver
from vfl.privacy.lineage import digest
from vfl.runtime.randomness import expand

RANGES = 10
"""Into how many ranges of about as many rows a number that is predicted is cut."""

Packed = npt.NDArray[np.uint8]
"""(ceil(n / 4),) parts of n rows as they are sent, see ``SplitMembership``."""

_SHIFTS = np.array([0, 2, 4, 6], dtype=np.uint8)
_ROWS_PER_BYTE = len(_SHIFTS)


def sizes_of(job: JobConfig, rows: int) -> dict[Split, int]:
    """How many of the aligned rows each part has.

    Raises:
        DataError: a part that is needed would have none.
    """
    return split_sizes(rows, job.split.validation, job.split.test)


def choose(job: JobConfig, table: Table, secret: bytes) -> Packed:
    """The active party's choice for a job that splits by label or time.

    The secret is used under everything that the choice depends on. If one label differs, all of it is drawn anew:
    equal draws under two classes would show which rows were affected.

    Args:
        table: its aligned rows, in any order.
        secret: of the active party; never leaves it.

    Raises:
        DataError: a part that is needed would have no rows.
    """
    table = table.select(canonical_order(table.ids))
    sizes = sizes_of(job, len(table))
    groups = _times(table) if job.split.by == "time" else strata(job, table, sizes)
    bound = digest(
        "vfl split",
        job.split.by.encode(),
        str(job.seed).encode(),
        repr([sizes[part] for part in Split]).encode(),
        digest("ids", *(row_id.encode() for row_id in table.ids)),
        np.ascontiguousarray(groups, dtype="<i8").tobytes(),
    )
    stream = expand(hmac.digest(secret, bound, "sha256"), 8 * len(table))
    keys = np.frombuffer(stream, dtype="<u8").astype(np.uint64)
    if job.split.by == "time":
        return pack(ordered_parts(sizes, np.lexsort((keys, groups)).astype(np.int64)))
    return pack(stratified_parts(sizes, groups, keys))


def strata(job: JobConfig, table: Table, sizes: Mapping[Split, int]) -> npt.NDArray[np.int64]:
    """The class of each row (n), or the range that its number is in, counted from 0."""
    if table.labels is None:
        raise RuntimeError("the active party has no labels")
    labels = clean_labels(table.labels)
    if job.task.kind != "regression":
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)
    ranges = min(RANGES, *(size for size in sizes.values() if size), len(labels))
    ordered = np.sort(labels)
    limits = np.unique([ordered[len(labels) * at // ranges] for at in range(1, ranges)])
    found = np.searchsorted(limits, labels, side="right")
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _times(table: Table) -> npt.NDArray[np.int64]:
    """The rank of each row's time (n), the same for equal times."""
    if table.times is None:
        raise RuntimeError("the active party has no times")
    return np.unique(table.times, return_inverse=True)[1].astype(np.int64)


# --- as it crosses ---


def announce(passives: tuple[str, ...], packed: Packed) -> Exchange[None]:
    """Send the active party's choice to all others."""
    yield Send(passives, SplitMembership(packed))


def learn(active: str, sizes: Mapping[Split, int]) -> Exchange[Packed]:
    """Receive the active party's choice.

    Args:
        sizes: rows of each part, which follow from the job.

    Raises:
        ProtocolError: it is malformed, or its parts have other sizes.
    """
    message = yield from receive(active, SplitMembership)
    unpack(message.members, sizes, active)
    return message.members


def pack(parts: Parts) -> Packed:
    """Parts as they are sent."""
    rows = sum(map(len, parts.values()))
    codes = np.zeros(-(-rows // _ROWS_PER_BYTE) * _ROWS_PER_BYTE, dtype=np.uint8)
    for code, part in enumerate(Split):
        codes[parts[part]] = code
    packed: Packed = np.bitwise_or.reduce(codes.reshape(-1, _ROWS_PER_BYTE) << _SHIFTS, axis=1).astype(np.uint8)
    return packed


def unpack(packed: Packed, sizes: Mapping[Split, int], sender: str) -> Parts:
    """The parts that ``pack`` packed.

    Raises:
        ProtocolError: another length, rows of no part, bits beyond the last row, or other sizes than ``sizes``.
    """
    rows = sum(sizes.values())
    check_shape(packed.shape, (-(-rows // _ROWS_PER_BYTE),), sender, "a split of the rows")
    codes = ((packed[:, None] >> _SHIFTS) & 3).reshape(-1)
    found = np.bincount(codes[:rows], minlength=len(_SHIFTS)).tolist()
    if found != [*(sizes[part] for part in Split), 0] or codes[rows:].any():
        raise ProtocolError(
            f"{sender} sent a split whose parts do not have the numbers of rows that follow from the job",
            remedy="check that every party runs the same version of vfl and the same job file",
        )
    return {part: np.flatnonzero(codes[:rows] == code).astype(np.int64) for code, part in enumerate(Split)}


class SplitAgreement:
    """A party's side of agreeing on the split of one run.

    Args:
        setup: the party's validated files.
        mail: runs the exchange.

    Attributes:
        packed: the active party's choice; None before it is known, and where the split follows from the job's seed.
    """

    def __init__(self, setup: PartySetup, mail: ExchangeDriver) -> None:
        self._setup = setup
        self._mail = mail
        self.packed: Packed | None = None

    async def agree(self, table: Table, secret: bytes, key: StepKey, restored: Snapshot | None) -> None:
        """Learn which of the aligned rows train. With a checkpoint, they are those of the checkpoint.

        Raises:
            DataError: a part that is needed would have no rows.
            PolicyRefusal: metrics of a part would be of too few rows for the active party, which then tells nobody.
            ProtocolError: the active party sent something else than a split with the sizes that follow from the job.
            CheckpointError: the checkpoint has no such split.
        """
        job, federation = self._setup.job, self._setup.federation
        sizes, active = sizes_of(job, len(table)), self._setup.entry.role is Role.ACTIVE
        if active:
            for part in (Split.VALIDATION, Split.TEST):
                self._setup.config.policy.check_scored(part, sizes[part])
        if job.split.by == "random":
            return
        if restored is not None:
            self.packed = split_of(restored)
            unpack(self.packed, sizes, "the checkpoint of this party")
        elif active:
            self.packed = await asyncio.to_thread(choose, job, table, secret)
            receivers = tuple(party.name for party in federation.passives)
            await self._mail.run(announce(receivers, self.packed), key, "sending the split of the rows")
        else:
            self.packed = await self._mail.run(learn(federation.active.name, sizes), key, "the split of the rows")

    def bound(self, statement: bytes) -> bytes:
        """What all parties agree on and bind noise and seeds to: the statement of the job, with a split that it leaves
        open."""
        if self.packed is None:
            return statement
        return digest("vfl training with split", statement, self.packed.tobytes())

    def parts(self, rows: int) -> Parts:
        """The rows of each part, of all aligned rows in their order."""
        job = self._setup.job
        if self.packed is None:
            return split_rows(rows, job.split.validation, job.split.test, job.seed)
        return unpack(self.packed, sizes_of(job, rows), self._setup.federation.active.name)
