"""What can be wrong with a ledger, in words, each with what to do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vfl.errors import LedgerError
from vfl.runtime.durable_files import is_disk_full

SETTING = "privacy.ledger"
_WHAT = "the disclosure ledger"
_PUT_BACK = "put back the latest copies of both, which belong together"
_START_OVER = (
    "only if there are none, move both away: counting then starts at zero, and releases made so far no longer count"
)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Say in words what is wrong with the files.

    Raises:
        LedgerError: for an error of SQLite or of the disk, or a row that vfl did not write.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise _in_words(error, path) from error
    except OSError as error:
        raise _full(str(error)) if is_disk_full(error) else _inaccessible(str(error)) from error
    except (ValueError, TypeError) as error:
        raise damaged(f"{path}: {error}") from error


def _in_words(error: sqlite3.Error, path: Path) -> LedgerError:
    detail = f"{path}: {error}"
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:  # the primary code of an extended one
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return in_use(detail)
        case sqlite3.SQLITE_FULL:
            return _full(detail)
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CONSTRAINT:
            return damaged(detail)
        case _:
            return _inaccessible(detail)


def in_use(detail: str) -> LedgerError:
    """Another process holds the ledger."""
    return LedgerError(
        f"{_WHAT} is in use by another process",
        detail=detail,
        remedy="end the process that holds the file; several jobs of one party may run at the same time",
    )


def _full(detail: str) -> LedgerError:
    return LedgerError(
        f"{_WHAT} cannot be written: the disk is full",
        detail=detail,
        remedy="free disk space, then run 'vfl run --resume'; nothing was released uncounted",
    )


def _inaccessible(detail: str) -> LedgerError:
    return LedgerError(
        f"{_WHAT} cannot be read or written",
        detail=detail,
        remedy=f"make '{SETTING}', and the directory of 'private_seed', places on a local disk that this user may "
        "write to",
    )


def damaged(detail: str) -> LedgerError:
    """The database is not one, or holds what vfl did not write."""
    return LedgerError(f"{_WHAT} is damaged", detail=detail, remedy=f"{_PUT_BACK}; {_START_OVER}")


def anchor_damaged(anchor: Path) -> LedgerError:
    """The anchor cannot be parsed."""
    return LedgerError(f"the anchor of {_WHAT} is damaged", detail=str(anchor), remedy=f"{_PUT_BACK}; {_START_OVER}")


def other_application(path: Path) -> LedgerError:
    """The database belongs to something else."""
    return LedgerError(
        "the file is not a disclosure ledger",
        detail=f"{path} is a database of something else",
        remedy=f"set '{SETTING}' to the ledger of this party",
    )


def newer(path: Path, schema: int, known: int) -> LedgerError:
    """The database has tables that this version does not know."""
    return LedgerError(
        f"{_WHAT} was written by a newer vfl",
        detail=f"{path} has schema {schema}, this version reads up to {known}",
        remedy="install that version of vfl",
    )


# --- a copy, or a new start ---


def copied(path: Path, anchor: Path) -> LedgerError:
    """There is a database without an anchor."""
    return LedgerError(
        f"{_WHAT} has no anchor: it was copied here from elsewhere, or its anchor was removed",
        detail=f"{path} is there, {anchor} is not",
        remedy=f"{_PUT_BACK}; {_START_OVER}",
    )


def reset(path: Path, anchor: Path, releases: int) -> LedgerError:
    """There is an anchor without a database."""
    return LedgerError(
        f"{_WHAT} is missing or empty, but releases have been counted: it was reset",
        detail=f"{path} has no releases, {anchor} has counted {releases:,}",
        remedy=f"set '{SETTING}' to the ledger of this party, or {_PUT_BACK}; {_START_OVER}",
    )


def rolled_back(path: Path, recorded: int, counted: int) -> LedgerError:
    """The database has fewer releases than the anchor."""
    return LedgerError(
        f"{_WHAT} is older than its anchor: it was put back from a copy",
        detail=f"{path} has {recorded:,} releases, its anchor has counted {counted:,}",
        remedy=f"{_PUT_BACK}; {_START_OVER}",
    )


def anchor_rolled_back(path: Path, recorded: int, counted: int) -> LedgerError:
    """The anchor has fewer releases than the database."""
    return LedgerError(
        f"the anchor of {_WHAT} is older than the ledger: it was put back from a copy",
        detail=f"{path} has {recorded:,} releases, its anchor has counted {counted:,}",
        remedy=f"{_PUT_BACK}; {_START_OVER}",
    )


def not_together(path: Path, anchor: Path) -> LedgerError:
    """The database and the anchor have different histories."""
    return LedgerError(
        f"{_WHAT} and its anchor do not belong together: one of them was copied or changed",
        detail=f"{path}; {anchor}",
        remedy=f"{_PUT_BACK}; {_START_OVER}",
    )
