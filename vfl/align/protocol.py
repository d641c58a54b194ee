"""Private set intersection over the network: first the number of common ids is revealed, then which they are.

Every list of ids is passed around the ring of parties; each blinds it (``vfl.align.curve``) and shuffles it. Only the
active party sees lists that all have blinded. It cannot tell which row an entry belongs to, even in its own list, until
every other party on the path has undone its shuffling. Each does so once its policy accepts the number (ADR 0017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from vfl.align.curve import POINT_BYTES
from vfl.align.sets import (
    PART_POINTS,
    TAG_BYTES,
    Bits,
    BlindedIds,
    Points,
    Positions,
    Shuffled,
    members_of_all,
    pack_members,
    part_count,
    part_of,
    unpack_members,
)
from vfl.errors import AlignmentError, ProtocolError
from vfl.messages import BlindedIdList, CommonIdCount, CommonIds, FullyBlindedIdList, IdCount
from vfl.messages.exchange import Exchange, Send, check_shape, receive

MAX_ROWS = 1 << 31
_PARTS_OF_A_LIST = 1 << 20
"""Parts of each party's list are numbered in a range of their own."""


class Alignment:
    """One party's part of an alignment.

    Args:
        parties: all parties in the order of the ring, the active one first; the same everywhere.
        name: this party.
        own: its blinded ids.
        check_rows: refuses too few rows, by this party's policy.
    """

    def __init__(self, parties: tuple[str, ...], name: str, own: BlindedIds, check_rows: Callable[[int], None]) -> None:
        self._parties = parties
        self._at = parties.index(name)
        self._own = own
        self._check_rows = check_rows
        self._sizes: dict[int, int] = {}
        self._shuffled: dict[int, Shuffled] = {}
        self._members: list[Bits] = []
        self._count = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Number of ids of each party."""
        return {self._parties[owner]: size for owner, size in self._sizes.items()}

    # --- how many ---

    def count(self) -> Exchange[int]:
        """Have all parties blind all lists; return how many ids they have in common.

        Raises:
            AlignmentError: there is none.
            PolicyRefusal: too few rows for this party's policy, in one list or in common.
            ProtocolError: a peer sent something malformed.
        """
        yield from self._exchange_sizes()
        outgoing: Iterator[Points] = (self._own.part(part) for part in range(part_count(len(self._own))))
        for stage in self._stages:
            yield from self._pass_on(stage, outgoing)
            passed = self._shuffled[self._owner(stage)]
            outgoing = _parts(passed.points)
        yield from self._collect()
        return self._count

    @property
    def _stages(self) -> range:
        return range(1, len(self._parties))

    @property
    def _last(self) -> int:
        return len(self._parties) - 1

    def _owner(self, stage: int) -> int:
        """The owner of the list that this party blinds in a stage."""
        return (self._at - stage) % len(self._parties)

    def _name(self, steps: int) -> str:
        """The party this many places further in the ring."""
        return self._parties[(self._at + steps) % len(self._parties)]

    def _exchange_sizes(self) -> Exchange[None]:
        peers = tuple(self._name(stage) for stage in self._stages)
        yield Send(peers, IdCount(_number(len(self._own))))
        self._sizes[self._at] = len(self._own)
        for peer in peers:
            message = yield from receive(peer, IdCount)
            self._sizes[self._parties.index(peer)] = _read_number(message.rows, peer)
        self._check_rows(min(self._sizes.values()))

    def _pass_on(self, stage: int, outgoing: Iterator[Points]) -> Exchange[None]:
        """Pass one list on and blind the incoming one, alternating part by part, so that neither side runs ahead."""
        owner, before = self._owner(stage), self._name(-1)
        rows, kept = self._sizes[owner], TAG_BYTES if stage == self._last else POINT_BYTES
        blinded = [np.empty((0, kept), dtype=np.uint8)]  # grows as points arrive: ``rows`` is only a peer's claim
        sent_owner = self._owner(stage - 1)
        for part in range(max(part_count(rows), part_count(self._sizes[sent_owner]))):
            if (points := next(outgoing, None)) is not None:
                yield Send((self._name(1),), BlindedIdList(points), _address(sent_owner, part))
            if part < part_count(rows):
                message = yield from receive(before, BlindedIdList, _address(owner, part))
                _check_part(message.points, rows, part, POINT_BYTES, before)
                blinded.append(self._own.reblind(message.points, before)[:, :kept])
        if stage > 1:
            self._shuffled[sent_owner].forget_points()
        self._shuffled[owner] = Shuffled(np.concatenate(blinded))

    def _collect(self) -> Exchange[None]:
        """The active party receives every fully blinded list, compares them, and reports how many ids are common."""
        held = self._owner(self._last)
        active = self._parties[0]
        if self._at:
            for part, tags in enumerate(_parts(self._shuffled[held].points)):
                yield Send((active,), FullyBlindedIdList(tags), part)
            self._shuffled[held].forget_points()
            message = yield from receive(active, CommonIdCount)
            self._count = _read_number(message.rows, active)
            self._check_count()
            return
        lists, senders = {held: self._shuffled[held].points}, {held: self._name(-1)}
        for stage in self._stages:
            owner = (stage + 1) % len(self._parties)
            senders[owner] = self._parties[stage]
            lists[owner] = yield from _fully_blinded(senders[owner], self._sizes[owner])
        owners = range(len(self._parties))
        self._members = members_of_all([lists[owner] for owner in owners], [senders[owner] for owner in owners])
        self._count = int(self._members[0].sum())
        self._shuffled[held].forget_points()
        self._check_count()
        yield Send(tuple(self._parties[1:]), CommonIdCount(_number(self._count)))

    def _check_count(self) -> None:
        if self._count == 0:
            raise AlignmentError(
                "the parties have no id in common",
                remedy="use the same kind of id in data.id_column at every party, and agree on how ids are normalized "
                "in [ids] of job.toml (case, white space, leading zeros)",
            )
        self._check_rows(self._count)

    # --- which ---

    def reveal(self) -> Exchange[Positions]:
        """After ``count``: undo the shuffling, last first; return this party's rows whose ids are common, ascending.

        Raises:
            ProtocolError: a peer sent something malformed.
        """
        if not self._at:
            for stage in self._stages:
                owner = (stage + 1) % len(self._parties)
                yield Send((self._parties[stage],), CommonIds(pack_members(self._members[owner])), owner)
        for stage in reversed(self._stages):
            owner = self._owner(stage)
            members = yield from self._members_of(owner, last=stage == self._last)
            before = self._shuffled[owner].unshuffled(members)
            yield Send((self._name(-1),), CommonIds(pack_members(before)), owner)
        own = yield from self._receive_members(self._name(1), self._at)
        return self._own.rows(own)

    def _members_of(self, owner: int, *, last: bool) -> Exchange[Bits]:
        if last and not self._at:
            return self._members[owner]
        return (yield from self._receive_members(self._parties[0] if last else self._name(1), owner))

    def _receive_members(self, sender: str, owner: int) -> Exchange[Bits]:
        message = yield from receive(sender, CommonIds, owner)
        return unpack_members(message.members, self._sizes[owner], self._count, sender, self._parties[0])


def _fully_blinded(sender: str, rows: int) -> Exchange[Points]:
    tags = [np.empty((0, TAG_BYTES), dtype=np.uint8)]
    for part in range(part_count(rows)):
        message = yield from receive(sender, FullyBlindedIdList, part)
        _check_part(message.tags, rows, part, TAG_BYTES, sender)
        tags.append(message.tags)
    return np.concatenate(tags)


def _parts(points: Points) -> Iterator[Points]:
    return (points[part_of(part)] for part in range(part_count(len(points))))


def _check_part(points: Points, rows: int, part: int, width: int, sender: str) -> None:
    expected = min(PART_POINTS, rows - part * PART_POINTS)
    check_shape(points.shape, (expected, width), sender, "a list of blinded ids")


def _address(owner: int, part: int) -> int:
    return owner * _PARTS_OF_A_LIST + part


def _number(value: int) -> np.ndarray:
    return np.array([value], dtype=np.int64)


def _read_number(numbers: np.ndarray, sender: str) -> int:
    if numbers.shape != (1,) or not 0 <= numbers[0] < MAX_ROWS:
        raise ProtocolError(
            f"{sender} sent an invalid number of ids", remedy="check that every party runs the same version of vfl"
        )
    return int(numbers[0])
