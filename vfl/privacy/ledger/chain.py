"""The hash chain over everything in a ledger: one link for each message that was charged."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vfl.privacy.ledger.anchor import Anchor
from vfl.privacy.ledger.release import Release

Do = Callable[..., Any]
"""``execute`` of a connection."""

_LINKS = (
    "SELECT messages.number, run, job, purpose, width, sigma, context, messages.bound, time, charges, digest, head"
    " FROM messages JOIN uses ON uses.number = use"
)


@dataclass(frozen=True, slots=True)
class Link:
    """One message, as the chain binds it.

    Attributes:
        number: from 1, without gaps.
        context: number of its context.
        charges: releases of rows that it counted.
        digest: SHA-256 of the stored rows and labels of these, in order.
    """

    number: int
    run: str
    job: str
    purpose: str
    width: int
    sigma: float
    context: int
    bound: float
    time: float
    charges: int
    digest: bytes

    @classmethod
    def of(cls, number: int, release: Release, context: int, charges: int, digest: bytes) -> Link:
        """The link of a release."""
        names = (release.run, release.job, str(release.purpose))
        sigma, bound, when = float(release.sigma), float(release.bound), float(release.time)
        return cls(number, *names, release.width, sigma, context, bound, when, charges, digest)

    @classmethod
    def stored(cls, values: Sequence[Any]) -> Link:
        """The link that the database holds.

        Raises:
            ValueError: a value is of a type that was never written.
        """
        if tuple(map(type, values)) != (int, str, str, str, int, float, int, float, float, int, bytes):
            raise ValueError("a message has values of the wrong type")
        return cls(*values)

    def after(self, anchor: Anchor) -> Anchor:
        """The anchor once this link follows it."""
        numbers = (self.number, self.width, self.context, self.charges)
        floats = (self.sigma.hex(), self.bound.hex(), self.time.hex())
        content = [*numbers, self.run, self.job, self.purpose, *floats, self.digest.hex()]
        return anchor.advanced(json.dumps(content).encode())


def last_step(do: Do, anchor: Anchor) -> tuple[Anchor, Anchor] | None:
    """The anchors, of the ledger and key of ``anchor``, before and after the newest link; the same if there is none.

    None if the link does not follow from the one before it under this key.
    """
    found = do(f"{_LINKS} ORDER BY messages.number DESC LIMIT 1").fetchone()
    if not found:
        return anchor.start, anchor.start
    *values, head = found
    link = Link.stored(values)
    previous = do("SELECT head FROM messages WHERE number = ?", (link.number - 1,)).fetchone()
    before = replace(anchor.start, counter=link.number - 1, head=previous[0]) if previous else anchor.start
    after = link.after(before)
    return (before, after) if (after.counter, after.head) == (link.number, head) else None


def first_problem(do: Do, anchor: Anchor) -> str:
    """What is wrong with the content, in words; empty if every charge is as it was written.

    Args:
        anchor: which the newest link is known to match.
    """
    return _broken_chain(do, anchor.start) or _changed_charges(do) or _wrong_counts(do)


def _broken_chain(do: Do, reached: Anchor) -> str:
    for *values, head in do(f"{_LINKS} ORDER BY messages.number"):
        link = Link.stored(values)
        reached = link.after(reached)
        if (link.number, head) != (reached.counter, reached.head):
            return f"message {link.number:,} does not follow from the one before it"
    return ""


def _changed_charges(do: Do) -> str:
    digests: dict[int, Any] = defaultdict(hashlib.sha256)
    counts: dict[int, int] = defaultdict(int)
    for row, label, message in do("SELECT row, label, message FROM charges ORDER BY context, row, label"):
        digests[message].update(row + label)
        counts[message] += 1
    for number, charges, digest in do("SELECT number, charges, digest FROM messages ORDER BY number"):
        if counts.pop(number, 0) != charges or digests[number].digest() != digest:
            return f"the charges of message {number:,} were changed"
    return "there are charges of no message" if counts else ""


def _wrong_counts(do: Do) -> str:
    (wrong,) = do(
        "SELECT COUNT(*) FROM (SELECT row, COUNT(*) AS n FROM charges GROUP BY row) AS counted LEFT JOIN rows"
        " USING (row) WHERE n IS NOT rows.releases"
    ).fetchone()
    (charges,), (releases,) = (
        do(query).fetchone() for query in ("SELECT COUNT(*) FROM charges", "SELECT SUM(releases) FROM rows")
    )
    if wrong or charges != (releases or 0):
        return "the counts of rows do not match the charges"
    (wrong,) = do(
        "SELECT COUNT(*) FROM uses WHERE releases IS NOT (SELECT SUM(charges) FROM messages WHERE use = uses.number)"
        " OR rows IS NOT (SELECT COUNT(*) FROM use_rows WHERE use = uses.number)"
    ).fetchone()
    return "the totals of runs do not match the charges" if wrong else ""
