"""Tables of the coordinator's record of runs, and errors of its file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfl.errors import CheckpointError
from vfl.runtime.durable_files import not_writable

SCHEMA = 1
"""Incremented when the tables change."""
APPLICATION = int.from_bytes(b"vflr", "big")
"""Identifies the file as ours, in its header (https://sqlite.org/pragma.html#pragma_application_id)."""

_SETTING = "runs.database"
_WHAT = "the record of runs"

_TABLES = (
    "CREATE TABLE runs (run TEXT PRIMARY KEY, job TEXT NOT NULL, federation TEXT NOT NULL, digest TEXT NOT NULL,"
    " job_file TEXT NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL DEFAULT -1,"
    " step INTEGER NOT NULL DEFAULT 0, started REAL NOT NULL, updated REAL NOT NULL,"
    " error TEXT NOT NULL DEFAULT '', outcome TEXT NOT NULL DEFAULT '')",
    "CREATE TABLE checkpoints (run TEXT NOT NULL REFERENCES runs, step INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " durable INTEGER NOT NULL, parties TEXT NOT NULL, progress TEXT NOT NULL, PRIMARY KEY (run, step))",
    "CREATE TABLE steps (run TEXT NOT NULL REFERENCES runs, step INTEGER NOT NULL, attempt INTEGER NOT NULL,"
    " split TEXT NOT NULL, epoch INTEGER NOT NULL, batch INTEGER NOT NULL, rows INTEGER NOT NULL, loss REAL,"
    " seconds REAL NOT NULL, bytes_sent INTEGER NOT NULL, PRIMARY KEY (run, step))",
    "CREATE TABLE events (number INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs, time REAL NOT NULL,"
    " kind TEXT NOT NULL, text TEXT NOT NULL, facts TEXT NOT NULL)",
)


def create_or_check(connection: sqlite3.Connection, path: Path) -> None:
    """Create the tables in an empty file; check that any other file is ours.

    Raises:
        CheckpointError: the file is not a record of runs, or was written by a newer vfl.
        sqlite3.Error: the file cannot be read or written.
    """
    application, schema = _marks(connection)
    if not application and not schema:
        connection.execute("BEGIN IMMEDIATE")
        with connection:
            _create_if_empty(connection)
        application, schema = _marks(connection)
    if application != APPLICATION:
        raise CheckpointError(
            "the file is not a record of runs",
            detail=f"{path} is a database of another application",
            remedy=f"name another file in '{_SETTING}'",
        )
    if schema > SCHEMA:
        raise CheckpointError(
            f"{_WHAT} was written by a newer vfl",
            detail=f"{path} has schema {schema}, this version reads up to {SCHEMA}",
            remedy=f"install that version of vfl, or name another file in '{_SETTING}'",
        )
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _marks(connection: sqlite3.Connection) -> tuple[int, int]:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (schema,) = connection.execute("PRAGMA user_version").fetchone()
    return application, schema


def _create_if_empty(connection: sqlite3.Connection) -> None:
    if connection.execute("SELECT COUNT(*) FROM sqlite_schema").fetchone()[0]:
        return
    for table in _TABLES:
        connection.execute(table)
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Translate errors of the file into errors that users can act on.

    Raises:
        CheckpointError: SQLite or the disk reports an error, or vfl did not write a row.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _explained(error, path) from error
    except OSError as error:
        raise not_writable(error, _WHAT, _SETTING) from error
    except ValueError as error:
        raise _damaged(f"{path}: {error}") from error


def _explained(error: sqlite3.Error, path: Path) -> CheckpointError:
    detail = f"{path}: {error}"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code of an extended one
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return CheckpointError(
                f"{_WHAT} is in use by another process",
                detail=detail,
                remedy=f"stop the other process, or name another file in '{_SETTING}'",
            )
        case sqlite3.SQLITE_FULL:
            return CheckpointError(
                f"{_WHAT} cannot be written: the disk is full",
                detail=detail,
                remedy=f"free disk space, or name another place in '{_SETTING}'",
            )
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(detail)
        case _:
            return CheckpointError(
                f"{_WHAT} cannot be read or written",
                detail=detail,
                remedy=f"make '{_SETTING}' a file on a local disk that this user may write to",
            )


def _damaged(detail: str) -> CheckpointError:
    return CheckpointError(
        f"{_WHAT} is damaged, or the file is something else",
        detail=detail,
        remedy=f"restore a copy, or name another file in '{_SETTING}'; its runs cannot be resumed without it",
    )
