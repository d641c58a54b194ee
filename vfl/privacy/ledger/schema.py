"""Tables of the ledger."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from vfl.privacy.ledger.anchor import BUSY_SECONDS
from vfl.privacy.ledger.failures import newer, other_application
from vfl.runtime.durable_files import make_directories

SCHEMA = 1
"""Grows when the tables change."""
APPLICATION = int.from_bytes(b"vfld", "big")
"""Marks the file as ours, in its header (https://sqlite.org/pragma.html#pragma_application_id)."""
IN_MEMORY = Path(":memory:")

_CACHE_KIB = 32 * 1024

# Rows, labels and contexts are keyed hashes of 16 bytes, see ``KeyedHashes``.
_TABLES = (
    "CREATE TABLE ledger (id TEXT NOT NULL)",
    # What a run released for one purpose, with sums that each charge keeps up to date.
    "CREATE TABLE uses (number INTEGER PRIMARY KEY, run TEXT NOT NULL, job TEXT NOT NULL, purpose TEXT NOT NULL,"
    " width INTEGER NOT NULL, sigma REAL NOT NULL, bound REAL NOT NULL, rows INTEGER NOT NULL,"
    " releases INTEGER NOT NULL, information REAL NOT NULL, first REAL NOT NULL, last REAL NOT NULL,"
    " UNIQUE (run, job, purpose, width, sigma))",
    "CREATE TABLE use_rows (use INTEGER NOT NULL REFERENCES uses, row BLOB NOT NULL, PRIMARY KEY (use, row))"
    " WITHOUT ROWID",
    "CREATE TABLE contexts (number INTEGER PRIMARY KEY, context BLOB NOT NULL UNIQUE)",
    # The chain: one link for each charge that counted anything, numbered from 1.
    "CREATE TABLE messages (number INTEGER PRIMARY KEY, use INTEGER NOT NULL REFERENCES uses, context INTEGER NOT NULL"
    " REFERENCES contexts, bound REAL NOT NULL, time REAL NOT NULL, charges INTEGER NOT NULL, digest BLOB NOT NULL,"
    " head BLOB NOT NULL)",
    # By context first: what one message charges then lies on neighboring pages, however large the table is.
    "CREATE TABLE charges (context INTEGER NOT NULL, row BLOB NOT NULL, label BLOB NOT NULL, message INTEGER NOT NULL,"
    " PRIMARY KEY (context, row, label)) WITHOUT ROWID",
    "CREATE TABLE rows (row BLOB PRIMARY KEY, releases INTEGER NOT NULL, information REAL NOT NULL) WITHOUT ROWID",
)


def connect(path: Path) -> sqlite3.Connection:
    """Open the file, which is made with mode 0600; SQLite gives its other files the mode of this one.

    Raises:
        sqlite3.Error, OSError: it cannot be opened.
    """
    if path != IN_MEMORY:
        make_directories(path.absolute().parent)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    except BaseException:
        connection.close()
        raise
    return connection


def is_empty(connection: sqlite3.Connection, path: Path) -> bool:
    """Whether the file has no tables yet.

    Raises:
        LedgerError: it is something else, or was written by a newer vfl.
        sqlite3.Error: it cannot be read.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()
    if not tables:
        return True
    if application != APPLICATION:
        raise other_application(path)
    if schema > SCHEMA:
        raise newer(path, schema, SCHEMA)
    return False


def create(connection: sqlite3.Connection, ledger: str) -> None:
    """Make the tables in an empty file.

    Raises:
        sqlite3.Error: it cannot be written.
    """
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("BEGIN IMMEDIATE")
    with connection:
        for table in _TABLES:
            connection.execute(table)
        connection.execute("INSERT INTO ledger VALUES (?)", (ledger,))
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {SCHEMA}")


def add_work_table(connection: sqlite3.Connection) -> None:
    """The table of what a charge is about, which this connection alone sees."""
    connection.execute(
        "CREATE TEMP TABLE wanted (row BLOB NOT NULL, label BLOB NOT NULL, PRIMARY KEY (row, label)) WITHOUT ROWID"
    )
