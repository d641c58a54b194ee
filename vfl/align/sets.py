"""Own ids blinded once, lists of blinded ids shuffled, fully blinded lists compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from vfl.align.curve import DIGEST_BYTES, POINT_BYTES, SmallOrderPoint, id_digests
from vfl.align.pool import BlindingPool
from vfl.errors import ProtocolError
from vfl.runtime.randomness import secret_stream

Points = npt.NDArray[np.uint8]
"""(n, 32) blinded ids, or (n, 16) tags."""
Bits = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]

PART_POINTS = 1 << 14
"""Blinded ids per message: 512 KiB."""
TAG_BYTES = 16
"""Bytes kept of a fully blinded id. Two of 9 parties' 10^8 ids each would share a tag with probability 2^-69."""


def part_count(rows: int) -> int:
    """Number of messages for a list of this many blinded ids."""
    return -(-rows // PART_POINTS)


def part_of(part: int) -> slice:
    """The rows of one message."""
    return slice(part * PART_POINTS, (part + 1) * PART_POINTS)


def secret_permutation(n: int) -> Positions:
    """A uniform secret permutation of 0..n-1: random 64-bit keys, sorted."""
    return np.argsort(np.frombuffer(secret_stream(8 * n), dtype=np.uint64)).astype(np.int64)


class BlindedIds:
    """This party's ids in a secret order, blinded with its secret scalar of the run.

    Blinded ids are kept, so another attempt of the run continues where the last one stopped.

    Args:
        ids: n distinct ids as text.
        run: the name that the hashes are bound to.
        processes: helper processes, at least 1.
    """

    def __init__(self, ids: pl.Series, run: str, processes: int) -> None:
        self._ids = ids
        self._run = run
        self._pool = BlindingPool(processes)
        self._order = secret_permutation(len(ids))
        self._points = np.empty((len(ids), POINT_BYTES), dtype=np.uint8)
        self._parts_done = 0

    def __len__(self) -> int:
        return len(self._ids)

    def part(self, part: int) -> Points:
        """Blinded ids of one message, (p, 32)."""
        while self._parts_done <= part:
            rows = part_of(self._parts_done)
            digests = id_digests(self._ids.gather(self._order[rows]).to_list(), self._run)
            self._points[rows] = _as_points(self._pool.blind_digests(digests))
            self._parts_done += 1
        return self._points[part_of(part)]

    def reblind(self, points: Points, sender: str) -> Points:
        """Blind the blinded ids of another party, (p, 32).

        Raises:
            ProtocolError: a point has small order; names the sender.
        """
        try:
            return _as_points(self._pool.blind_points(points.tobytes()))
        except SmallOrderPoint:
            raise ProtocolError(
                f"{sender} sent a blinded id that is a point of small order",
                remedy=f"check that {sender} runs the same version of vfl, unchanged",
            ) from None

    def rows(self, members: Bits) -> Positions:
        """Ascending positions in the table, given which places of the secret order are members."""
        return np.sort(self._order[members])

    def close(self) -> None:
        """End the helper processes."""
        self._pool.close()


def _as_points(content: bytes) -> Points:
    return np.frombuffer(content, dtype=np.uint8).reshape(-1, DIGEST_BYTES)


class Shuffled:
    """A list that this party passes on in its own secret order.

    Args:
        points: (n, width); owned by this object from now on, so that it is not stored twice.
    """

    def __init__(self, points: Points) -> None:
        self._permutation = secret_permutation(len(points))
        self.points = points[self._permutation]

    def __len__(self) -> int:
        return len(self._permutation)

    def forget_points(self) -> None:
        """Free the points, which have been passed on; the permutation is kept."""
        self.points = self.points[:0]

    def unshuffled(self, members: Bits) -> Bits:
        """Convert membership from the order in which the list was passed on to the order in which it arrived."""
        before = np.empty_like(members)
        before[self._permutation] = members
        return before


def members_of_all(tags: Sequence[Points], senders: Sequence[str]) -> list[Bits]:
    """Which fully blinded ids are in every list.

    Args:
        tags: lists (n_j, 16), at least one.
        senders: who sent each.

    Returns:
        (n_j,) for each list, all with the same number of members.

    Raises:
        ProtocolError: a list has a tag twice, which distinct ids never have; names the sender.
    """
    frames = [_frame(each, sender) for each, sender in zip(tags, senders, strict=True)]
    columns = frames[0].columns
    common = frames[0]
    for frame in frames[1:]:
        common = common.join(frame, on=columns, how="semi")
    return [_marked(frame, common, columns) for frame in frames]


def _frame(tags: Points, sender: str) -> pl.DataFrame:
    words = np.ascontiguousarray(tags).view(np.uint64)
    frame = pl.DataFrame({str(column): words[:, column] for column in range(words.shape[1])})
    if frame.n_unique() != frame.height:
        raise ProtocolError(
            f"{sender} sent a list of blinded ids with a duplicate id",
            remedy=f"check that {sender} runs the same version of vfl, unchanged",
        )
    return frame


def _marked(frame: pl.DataFrame, common: pl.DataFrame, columns: list[str]) -> Bits:
    positions = frame.with_row_index("row").join(common, on=columns, how="semi").get_column("row").to_numpy()
    members = np.zeros(frame.height, dtype=np.bool_)
    members[positions] = True
    return members


def pack_members(members: Bits) -> npt.NDArray[np.uint8]:
    """One bit per place, (ceil(n / 8),)."""
    return np.packbits(members)


def unpack_members(packed: npt.NDArray[np.uint8], n: int, count: int, sender: str, counted_by: str) -> Bits:
    """The membership of a list of n, which must have ``count`` members.

    Args:
        counted_by: who stated that number. It may have told the sender another one, so both are named.

    Raises:
        ProtocolError: wrong length, or wrong number of members; names the sender and whoever counted.
    """
    members = np.unpackbits(packed, count=n).astype(np.bool_) if packed.size == -(-n // 8) else None
    if members is None or int(members.sum()) != count:
        stated = "" if counted_by == sender else f" that {counted_by} stated"
        raise ProtocolError(
            f"{sender} sent a list of members that does not match the number of common ids{stated}",
            remedy="check that every party runs the same version of vfl",
        )
    return members
