"""One charge inside its transaction: the limit of each row, and what is written down.

What is charged stands in the table ``wanted``, without what was charged before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from vfl.errors import PolicyRefusal
from vfl.privacy.ledger.anchor import Anchor
from vfl.privacy.ledger.chain import Do, Link
from vfl.privacy.ledger.release import Release

_SHOWN_USES = 5
_REMEDY = (
    "run fewer passes over these rows, keep earlier outputs, or use other rows; a higher policy.max_releases_per_row "
    "of this party lets more of each row be inferred"
)
_BEYOND = "CREATE TEMP TABLE beyond AS"  # gone with the transaction

_ADDED = "(SELECT row, COUNT(*) AS releases FROM wanted GROUP BY row)"
_AFTER = f"FROM {_ADDED} AS added LEFT JOIN rows USING (row)"
_TOTAL = "added.releases + IFNULL(rows.releases, 0)"
_SPENT = (
    "SELECT run, job, purpose, shared FROM (SELECT uses.*, (SELECT COUNT(*) FROM beyond CROSS JOIN use_rows"
    " ON use_rows.row = beyond.row WHERE use_rows.use = uses.number) AS shared FROM uses)"
    " WHERE shared > 0 AND run != ? ORDER BY number DESC"
)


def check_limit(do: Do, limit: int | None, asked: int, run: str) -> int:
    """The most releases that any of the rows will have.

    Args:
        asked: distinct rows of the message.
        run: that releases them.

    Raises:
        PolicyRefusal: it is more than ``limit``.
    """
    highest: int = do(f"SELECT MAX({_TOTAL}) {_AFTER}").fetchone()[0]
    if limit is None or highest <= limit:
        return highest
    do(f"{_BEYOND} SELECT row {_AFTER} WHERE {_TOTAL} > {limit:d}")
    raise PolicyRefusal(
        "this party's policy refuses the release: rows are at their limit of releases",
        detail=_spent(do, asked, limit, run),
        remedy=_REMEDY,
    )


def check_room(do: Do, limit: int, ahead: Mapping[int, Sequence[bytes]], run: str) -> None:
    """Check at the first release of a run that all of it fits.

    Args:
        ahead: hashes of the rows, by how often the run will release them.

    Raises:
        PolicyRefusal: a row would pass ``limit`` later in the run.
    """
    if do("SELECT COUNT(*) FROM uses WHERE run = ?", (run,)).fetchone()[0]:
        return  # it has begun: what it releases again costs nothing
    do("CREATE TEMP TABLE planned (row BLOB PRIMARY KEY, releases INTEGER NOT NULL) WITHOUT ROWID")
    for releases, rows in ahead.items():
        for row in rows:
            do("INSERT INTO planned VALUES (?, ?)", (row, releases))
    do(
        f"{_BEYOND} SELECT row FROM planned LEFT JOIN rows USING (row)"  # noqa: S608 - an integer
        f" WHERE planned.releases + IFNULL(rows.releases, 0) > {limit:d}"
    )
    if do("SELECT COUNT(*) FROM beyond").fetchone()[0]:
        most, asked = max(ahead), sum(map(len, ahead.values()))
        raise PolicyRefusal(
            "this party's policy refuses the run: rows have fewer releases left than it needs",
            detail=f"the run would release a row up to {most:,} times; nothing was released. "
            + _spent(do, asked, limit, run),
            remedy=_REMEDY,
        )
    do("DROP TABLE planned")
    do("DROP TABLE beyond")


def _spent(do: Do, asked: int, limit: int, run: str) -> str:
    """How many rows are in ``beyond``, and which other runs have released them."""
    beyond: int = do("SELECT COUNT(*) FROM beyond").fetchone()[0]
    spent = [f"{name} (job {job}, {purpose}): {rows:,} rows" for name, job, purpose, rows in do(_SPENT, (run,))]
    shown = [*spent[:_SHOWN_USES], *([f"and {len(spent) - _SHOWN_USES} more"] if len(spent) > _SHOWN_USES else [])]
    return (
        f"{beyond:,} of {asked:,} rows would be released more than {limit:,} times (policy.max_releases_per_row). "
        f"Of these, other runs released, the latest first: {'; '.join(shown) or 'none'}"
    )


def record(do: Do, anchor: Anchor, release: Release, context: int) -> Anchor:
    """Write down what is in ``wanted``; return the anchor that goes with it.

    Args:
        anchor: of the ledger so far.
        context: number of the release's context.
    """
    use = _number_of_use(do, release)
    rows: int = do("INSERT OR IGNORE INTO use_rows SELECT DISTINCT ?, row FROM wanted", (use,)).rowcount
    do(
        f"INSERT INTO rows SELECT row, releases, releases * ? FROM {_ADDED} WHERE true"  # noqa: S608 - a literal above
        " ON CONFLICT (row) DO UPDATE SET releases = releases + excluded.releases,"
        " information = information + excluded.information",
        (release.information,),
    )
    entries = b"".join(row + label for row, label in do("SELECT row, label FROM wanted ORDER BY row, label"))
    number = anchor.counter + 1
    charges: int = do("INSERT INTO charges SELECT ?, row, label, ? FROM wanted", (context, number)).rowcount
    do(
        "UPDATE uses SET rows = rows + ?, releases = releases + ?, information = information + ?,"
        " bound = MAX(bound, ?), first = MIN(first, ?), last = MAX(last, ?) WHERE number = ?",
        (rows, charges, release.information * charges, release.bound, release.time, release.time, use),
    )
    link = Link.of(number, release, context, charges, hashlib.sha256(entries).digest())
    reached = link.after(anchor)
    do(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (number, use, context, link.bound, link.time, charges, link.digest, reached.head),
    )
    return reached


def _number_of_use(do: Do, release: Release) -> int:
    names = (release.run, release.job, str(release.purpose), release.width, release.sigma)
    do(
        "INSERT OR IGNORE INTO uses VALUES (NULL, ?, ?, ?, ?, ?, 0.0, 0, 0, 0.0, ?, ?)",
        (*names, release.time, release.time),
    )
    query = "SELECT number FROM uses WHERE run = ? AND job = ? AND purpose = ? AND width = ? AND sigma = ?"
    number: int = do(query, names).fetchone()[0]
    return number
