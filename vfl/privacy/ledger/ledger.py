"""The disclosure ledger of one party, in SQLite: counts how often each row was released, over all runs (ADR 0033).

Noise averages out over repeated releases of a row, whichever run, job or prediction they belong to. So a release is
charged here before it leaves, and the charge is on the disk when ``DisclosureLedger.charge`` returns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Self

from vfl.privacy.ledger import failures, schema
from vfl.privacy.ledger.anchor import Anchor, AnchorFile, KeyedHashes
from vfl.privacy.ledger.chain import Do, first_problem, last_step
from vfl.privacy.ledger.failures import readable
from vfl.privacy.ledger.recording import check_limit, check_room, record
from vfl.privacy.ledger.release import Charged, Release
from vfl.privacy.ledger.summary import Summary, Use


class DisclosureLedger:
    """Counts releases of rows. May be used from several threads, and one file by several processes.

    Made by ``open`` or ``in_memory``. Every method raises LedgerError when the files cannot be read or written, are
    damaged, or were copied, reset or put back from a copy since.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, anchor: Anchor, file: AnchorFile | None) -> None:
        self._path = path
        self._connection = connection
        self._anchor = anchor
        self._file = file
        self._hashes = KeyedHashes(anchor.key)
        self._lock = threading.Lock()
        schema.add_work_table(connection)

    @classmethod
    def open(cls, path: Path, anchor: Path) -> Self:
        """The ledger of a party; both files are made, with mode 0600, if neither is there.

        Args:
            path: the database, on a local disk.
            anchor: file in the party's private directory that says in which state the database must be.

        Raises:
            LedgerError: the files cannot be used, do not belong together, or one of them is missing or older than the
                other.
        """
        file = AnchorFile(anchor)
        with readable(path), file.locked(), ExitStack() as on_failure:
            state = file.read()
            if state is None:
                if path.exists() and path.stat().st_size:
                    raise failures.copied(path, anchor)
                state = Anchor.fresh()
                file.write(state)
            if state.counter and not path.exists():
                raise failures.reset(path, anchor, state.counter)
            connection = schema.connect(path)
            on_failure.callback(connection.close)
            if schema.is_empty(connection, path):
                if state.counter:
                    raise failures.reset(path, anchor, state.counter)
                schema.create(connection, state.ledger)
            ledger = cls(path, connection, state, file)
            ledger._catch_up()
            on_failure.pop_all()
            return ledger

    @classmethod
    def in_memory(cls) -> Self:
        """A ledger that lasts as long as this object, for simulations."""
        anchor = Anchor.fresh()
        connection = schema.connect(schema.IN_MEMORY)
        schema.create(connection, anchor.ledger)
        return cls(schema.IN_MEMORY, connection, anchor, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        with self._lock, readable(self._path):
            self._connection.close()

    # --- charging ---

    def charge(
        self,
        rows: Sequence[bytes | str],
        labels: Sequence[bytes],
        release: Release,
        limit: int | None = None,
        ahead: Mapping[int, Sequence[bytes | str]] | None = None,
    ) -> Charged:
        """Count a release of rows, before it leaves: all of it or, if it is refused, nothing.

        A row whose label is already recorded costs nothing: an equal replay draws the same noise. Blocks until the
        charge is on the disk.

        Args:
            rows: ids of the rows, as this party's own table has them. A job's rules for ids must not change them:
                otherwise one row would be counted under several ids.
            labels: of the rows, one for each; they identify exactly what the noise is bound to.
            release: what the rows have in common.
            limit: ``policy.max_releases_per_row``; no limit if None.
            ahead: at the first release of a run, all rows of it, by how often it will release them. A run that begins
                with an equal replay is not checked: all of it may be one, and cost nothing.

        Raises:
            PolicyRefusal: a row would be released more often than ``limit`` allows, now or later in the run.
            LedgerError: see the class.
            ValueError: there is not one label for each row, or the limit is below 1.
        """
        if len(rows) != len(labels):
            raise ValueError(f"{len(rows)} rows and {len(labels)} labels")
        if limit is not None and limit < 1:
            raise ValueError(f"a limit of {limit}")
        pairs = self._hashed(rows, labels)
        if not pairs:
            return Charged(0, 0, 0)
        with self._lock, readable(self._path), self._files_locked():
            self._catch_up()
            with self._transaction() as do:
                context = self._without_repeated(do, pairs, release)
                new: int = do("SELECT COUNT(*) FROM wanted").fetchone()[0]
                if not new:
                    return Charged(0, len(pairs), 0)
                if ahead and limit is not None:
                    of_row = self._hashes.row
                    check_room(do, limit, {n: sorted(map(of_row, each)) for n, each in ahead.items()}, release.run)
                highest = check_limit(do, limit, len({row for row, _ in pairs}), release.run)
                anchor = record(do, self._anchor, release, context)
            self._move_to(anchor)
        return Charged(new, len(pairs) - new, highest)

    def _hashed(self, rows: Sequence[bytes | str], labels: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
        """What stands for rows and labels, each pair once, in the order of the tables."""
        of_row, of_label = self._hashes.row, self._hashes.label
        hashed = map(of_row, rows)
        return sorted({(row, of_label(row, label)) for row, label in zip(hashed, labels, strict=True)})

    def _without_repeated(self, do: Do, pairs: list[tuple[bytes, bytes]], release: Release) -> int:
        """Put into ``wanted`` what was not charged before; return the number of the context."""
        do("DELETE FROM wanted")
        self._connection.executemany("INSERT INTO wanted VALUES (?, ?)", pairs)
        digest = self._hashes.context(release.context)
        do("INSERT OR IGNORE INTO contexts (context) VALUES (?)", (digest,))
        context: int = do("SELECT number FROM contexts WHERE context = ?", (digest,)).fetchone()[0]
        do(
            "DELETE FROM wanted WHERE EXISTS (SELECT 1 FROM charges"
            " WHERE context = ? AND charges.row = wanted.row AND charges.label = wanted.label)",
            (context,),
        )
        return context

    # --- reading ---

    def spent(self, rows: Sequence[bytes | str]) -> list[int]:
        """How often each of these rows was released."""
        hashed = [self._hashes.row(row) for row in rows]
        query = "SELECT releases FROM rows WHERE row = ?"
        with self._lock, readable(self._path), self._transaction("DEFERRED") as do:
            found = (do(query, (row,)).fetchone() for row in hashed)
            return [int(one[0]) if one else 0 for one in found]

    def released_in(self, run: str) -> int:
        """How many releases of rows were charged to a run."""
        query = "SELECT IFNULL(SUM(releases), 0) FROM uses WHERE run = ?"
        with self._lock, readable(self._path), self._transaction("DEFERRED") as do:
            return int(do(query, (run,)).fetchone()[0])

    def summary(self) -> Summary:
        """What was released so far, in all."""
        with self._lock, readable(self._path), self._transaction("DEFERRED") as do:
            distribution = dict(do("SELECT releases, COUNT(*) FROM rows GROUP BY releases ORDER BY releases"))
            (information,) = do("SELECT IFNULL(MAX(information), 0.0) FROM rows").fetchone()
            uses = do(
                "SELECT run, job, purpose, width, sigma, bound, rows, releases, information, first, last FROM uses"
                " ORDER BY number"
            ).fetchall()
            rows, releases = sum(distribution.values()), sum(n * count for n, count in distribution.items())
        mean, most = releases / max(rows, 1), max(distribution, default=0)
        return Summary(rows, releases, most, mean, distribution, information, tuple(Use(*values) for values in uses))

    def verify(self) -> None:
        """Check every charge against the hash chain, and the sums against the charges. Reads the whole file.

        Raises:
            LedgerError: something was changed, removed or added, or see the class.
        """
        with self._lock, readable(self._path), self._files_locked():
            self._catch_up()
            with self._transaction("DEFERRED") as do:
                problem = first_problem(do, self._anchor)
        if problem:
            raise failures.damaged(f"{self._path}: {problem}")

    # --- the state of the files ---

    @contextmanager
    def _files_locked(self) -> Iterator[None]:
        with self._file.locked() if self._file else nullcontext():
            yield

    def _catch_up(self) -> None:
        """See whether the database is in the state that the anchor asks for.

        It may be one message ahead: a process may end after the commit and before the anchor is written. What it
        charged has not left, but stays counted.

        Raises:
            LedgerError: it is not.
        """
        if self._file is None:
            return
        state = self._file.read()
        if state is None:
            raise failures.copied(self._path, self._file.path)
        do = self._connection.execute
        (ledger,) = do("SELECT id FROM ledger").fetchone()
        recorded: int = do("SELECT IFNULL(MAX(number), 0) FROM messages").fetchone()[0]
        if recorded < state.counter:
            raise failures.rolled_back(self._path, recorded, state.counter)
        if recorded > state.counter + 1:
            raise failures.anchor_rolled_back(self._path, recorded, state.counter)
        step = last_step(do, state)
        if (ledger, self._anchor.key) != (state.ledger, state.key) or step is None or state not in step:
            raise failures.not_together(self._path, self._file.path)
        self._anchor = state
        if state != step[1]:
            self._move_to(step[1])

    def _move_to(self, anchor: Anchor) -> None:
        if self._file is not None:
            self._file.write(anchor)
        self._anchor = anchor

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[Do]:
        """One transaction; gives the connection's ``execute``."""
        do = self._connection.execute
        do(f"BEGIN {kind}")
        try:
            yield do
            do("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                do("ROLLBACK")
            raise
