"""What can go wrong with the files of a disclosure ledger is said in words, and nothing is released uncounted."""

import fcntl
import re
import shutil
import sqlite3
import threading
import time
from contextlib import closing

import pytest
from support.faults.small_disk import small_disk
from support.fixtures.ledgers import ROWS, Place, labels, release

from vfl.errors import LedgerError
from vfl.privacy.ledger import anchor as anchor_module
from vfl.privacy.ledger import schema
from vfl.privacy.ledger.anchor import AnchorFile
from vfl.privacy.ledger.release import Charged


@pytest.fixture
def charged(place):
    """A ledger of three messages, in two runs; closed."""
    place.charge("a")
    place.charge("b")
    place.charge("c", run="credit-2")
    return place


def _edit(place, *statements):
    with closing(sqlite3.connect(place.path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _message(place):
    with pytest.raises(LedgerError) as raised:
        place.open()
    assert raised.value.remedy
    assert str(place.folder) not in raised.value.summary
    return raised.value.summary


# --- the content ---


@pytest.mark.parametrize("content", [b"hello, this is a text" * 99, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_database_is_damaged(charged, content):
    charged.path.write_bytes(content)
    assert _message(charged) == "the disclosure ledger is damaged"


def test_a_damaged_page_is_found_when_it_is_read(charged):
    content = bytearray(charged.path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    charged.path.write_bytes(content)
    assert _message(charged) == "the disclosure ledger is damaged"


def test_a_database_of_something_else_is_refused_and_left_as_it_is(place):
    place.open().close()
    place.path.unlink()
    _edit(place, "CREATE TABLE patients (id)")
    before = place.path.read_bytes()
    assert _message(place) == "the file is not a disclosure ledger"
    assert place.path.read_bytes() == before


def test_a_newer_ledger_is_refused(charged):
    _edit(charged, f"PRAGMA user_version = {schema.SCHEMA + 1}")
    assert _message(charged) == "the disclosure ledger was written by a newer vfl"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE messages SET bound = 'x' WHERE number = 3",
        "UPDATE messages SET digest = 5 WHERE number = 3",
        "DELETE FROM ledger",
    ],
)
def test_values_that_vfl_did_not_write_are_damage(charged, statement):
    _edit(charged, statement)
    assert _message(charged) == "the disclosure ledger is damaged"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM charges WHERE message = 2", "the charges of message 2 were changed"),
        ("DELETE FROM charges WHERE row = (SELECT MIN(row) FROM rows)", "the charges of message 1 were changed"),
        ("UPDATE charges SET label = x'00' WHERE message = 1 AND row = (SELECT MIN(row) FROM rows)", "of message 1"),
        ("INSERT INTO charges SELECT 9, row, label, 9 FROM charges WHERE message = 1", "charges of no message"),
        ("UPDATE charges SET message = 1 WHERE message = 2", "the charges of message 1 were changed"),
        ("UPDATE rows SET releases = 1 WHERE row = (SELECT MIN(row) FROM rows)", "counts of rows"),
        ("DELETE FROM rows WHERE row = (SELECT MIN(row) FROM rows)", "counts of rows"),
        ("INSERT INTO rows VALUES (x'00', 1, 0.0)", "counts of rows"),
        ("UPDATE uses SET releases = 1 WHERE number = 1", "totals of runs"),
        ("DELETE FROM use_rows WHERE use = 1", "totals of runs"),
        ("UPDATE messages SET time = 0 WHERE number = 1", "message 1 does not follow"),
        ("UPDATE messages SET head = x'00' WHERE number = 1", "message 1 does not follow"),
        ("DELETE FROM messages WHERE number = 1", "message 2 does not follow"),
        ("UPDATE uses SET job = 'other' WHERE number = 1", "message 1 does not follow"),
    ],
)
def test_whatever_was_changed_inside_is_found_on_request(charged, statement, problem):
    with charged.open() as ledger:
        ledger.verify()
    _edit(charged, statement)
    with charged.open() as ledger, pytest.raises(LedgerError, match="is damaged") as raised:
        ledger.verify()
    assert problem in raised.value.detail


@pytest.mark.parametrize(
    "statement",
    ["UPDATE messages SET charges = 9 WHERE number = 3", "UPDATE messages SET head = x'00' WHERE number = 3"],
)
def test_the_last_message_is_checked_whenever_the_ledger_is_opened(charged, statement):
    _edit(charged, statement)
    assert "do not belong together" in _message(charged)


def test_counts_that_are_no_numbers_are_damage(charged):
    _edit(charged, "UPDATE rows SET releases = 'x'")
    with charged.open() as ledger:
        for call in (ledger.summary, lambda: ledger.spent(ROWS)):
            with pytest.raises(LedgerError, match="is damaged"):
                call()


def test_a_table_that_was_removed_is_no_bug(charged):
    _edit(charged, "DROP TABLE rows")
    with charged.open() as ledger:
        for call in (lambda: ledger.charge(ROWS, labels("x"), release()), ledger.summary, lambda: ledger.spent(ROWS)):
            with pytest.raises(LedgerError, match="cannot be read or written"):
                call()


# --- the place ---


@pytest.mark.parametrize("what", ["path", "anchor"])
def test_a_place_that_cannot_be_used(place, what):
    (place.folder / "file").touch()
    inside = {"path": place.path, "anchor": place.anchor, what: place.folder / "file" / "x"}
    taken = {"path": place.path, "anchor": place.anchor, what: place.folder / "taken"}
    (place.folder / "taken").mkdir()
    for files in (inside, taken):
        with pytest.raises(LedgerError) as raised:
            Place.open(_Placed(**files))
        assert raised.value.summary == "the disclosure ledger cannot be read or written"
        assert "privacy.ledger" in raised.value.remedy


class _Placed:
    def __init__(self, path, anchor):
        self.path, self.anchor = path, anchor


def test_after_it_was_closed(place):
    ledger = place.open()
    ledger.close()
    with pytest.raises(LedgerError, match="cannot be read or written"):
        ledger.charge(ROWS, labels("a"), release())


# --- other processes ---


def test_a_ledger_that_is_held_for_too_long_says_so(charged, monkeypatch):
    monkeypatch.setattr(anchor_module, "BUSY_SECONDS", 0.05)
    with charged.open() as ledger, charged.anchor.with_name("ledger_anchor.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert ledger.spent(ROWS) == [3] * 10  # reading goes on
        with pytest.raises(LedgerError, match="in use by another process"):
            ledger.charge(ROWS, labels("d"), release())
        assert "in use by another process" in _message(charged)
        fcntl.flock(other, fcntl.LOCK_UN)
        assert ledger.charge(ROWS, labels("d"), release()) == Charged(10, 0, 4)


def test_another_one_is_waited_for(charged):
    held, done = threading.Event(), []

    def hold():
        with AnchorFile(charged.anchor).locked():
            held.set()
            time.sleep(0.2)
            done.append("released")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    charged.charge("d")
    assert done == ["released"]
    thread.join()


def test_a_database_held_by_a_program_of_somebody_else_says_so(charged, monkeypatch):
    monkeypatch.setattr(schema, "BUSY_SECONDS", 0.05)
    with charged.open() as ledger, closing(sqlite3.connect(charged.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="in use by another process"):
            ledger.charge(ROWS, labels("d"), release())
        other.execute("ROLLBACK")
        assert ledger.charge(ROWS, labels("d"), release()) == Charged(10, 0, 4)


# --- the disk ---


def test_a_full_disk_releases_nothing_and_loses_nothing(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        place = Place(disk.path)
        with place.open() as ledger:
            ledger.charge(ROWS, labels("a"), release())
            disk.fill()
            for _ in range(2):
                with pytest.raises(LedgerError, match="cannot be written: the disk is full"):
                    ledger.charge(many := [f"row {n}" for n in range(5000)], labels("b", rows=many), release())
            disk.free()
            assert ledger.charge(ROWS, labels("b"), release()).highest == 2
            ledger.verify()


def test_a_disk_that_fills_up_before_the_anchor_is_written_releases_nothing(tmp_path):
    """The private directory has a disk of its own."""
    with small_disk(tmp_path / "private") as disk:
        place = Place(tmp_path)
        with place.open() as ledger:
            disk.fill()
            for _ in range(2):
                with pytest.raises(LedgerError, match="the disk is full"):
                    ledger.charge(ROWS, labels("a"), release())
            disk.free()
            assert ledger.charge(ROWS, labels("a"), release()) == Charged(0, 10, 0)  # counted by the first try
            assert ledger.charge(ROWS, labels("b"), release()) == Charged(10, 0, 2)
        place.open().close()


def test_a_disk_that_can_only_be_read(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        place = Place(disk.path)
        place.charge("a")
        disk.make_read_only()
        with pytest.raises(LedgerError, match="cannot be read or written"):
            place.charge("b")
        disk.make_writable()
        assert place.charge("b") == Charged(10, 0, 2)


def test_every_refusal_says_what_to_do_without_names_of_files(charged):
    shutil.copy(charged.path, charged.folder / "copy")
    charged.charge("d")
    shutil.copy(charged.folder / "copy", charged.path)
    with pytest.raises(LedgerError) as raised:
        charged.open()
    assert re.search(r"has 3 releases, its anchor has counted 4", raised.value.detail)
    assert "put back the latest copies" in raised.value.remedy
    assert "releases made so far no longer count" in raised.value.remedy
