"""A disclosure ledger that was copied, reset or put back from a copy is refused; one that crashed is not."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from support.fixtures.ledgers import ROWS, Place, labels, release

from vfl.errors import LedgerError
from vfl.privacy.ledger import ledger as ledger_module
from vfl.privacy.ledger.anchor import AnchorFile
from vfl.privacy.ledger.release import Charged


class Killed(BaseException):
    """Stands for the end of the process."""


def _refused(place, match):
    with pytest.raises(LedgerError, match=match) as raised:
        place.open()
    assert str(place.folder) not in raised.value.summary
    assert str(place.path) in raised.value.detail or str(place.anchor) in raised.value.detail
    assert raised.value.remedy


def _copy(place, name):
    folder = place.folder.with_name(f"{place.folder.name}-{name}")
    shutil.copytree(place.folder, folder)
    return Place(folder)


@pytest.mark.parametrize("later", [1, 2, 5])
def test_a_database_put_back_from_a_copy_is_refused(place, later):
    place.charge("a")
    earlier = _copy(place, "earlier")
    for number in range(later):
        place.charge(number)
    latest = _copy(place, "latest")
    shutil.copy(earlier.path, place.path)
    _refused(place, "older than its anchor: it was put back from a copy")
    shutil.copy(latest.path, place.path)
    assert place.charge("a") == Charged(0, 10, 0)


def test_a_database_put_back_under_a_running_party_is_refused_at_the_next_charge(place, ledger):
    ledger.charge(ROWS, labels("a"), release())
    with closing(sqlite3.connect(place.path)) as live, closing(sqlite3.connect(place.folder / "copy")) as copy:
        live.backup(copy)
        ledger.charge(ROWS, labels("b"), release())
        copy.backup(live)
    for parts in ("b", "c"):
        with pytest.raises(LedgerError, match="older than its anchor"):
            ledger.charge(ROWS, labels(parts), release())
    with pytest.raises(LedgerError, match="older than its anchor"):
        ledger.verify()


def test_an_equal_number_of_other_charges_is_refused(place):
    place.charge("a")
    fork = _copy(place, "fork")
    place.charge("b")
    fork.charge("c")
    shutil.copy(fork.path, place.path)
    _refused(place, "do not belong together")


def test_a_database_that_was_removed_or_emptied_is_refused(place):
    place.charge("a")
    place.path.write_bytes(b"")
    _refused(place, "was reset")
    place.path.unlink()
    _refused(place, "was reset")
    assert not place.path.exists()
    with closing(sqlite3.connect(place.path)) as empty:
        empty.execute("PRAGMA journal_mode = WAL")
    _refused(place, "was reset")


def test_a_database_without_its_anchor_is_refused(place):
    place.charge("a")
    place.anchor.unlink()
    _refused(place, "it was copied here from elsewhere, or its anchor was removed")
    assert not place.anchor.exists()


def test_an_anchor_that_goes_away_under_a_running_party_is_noticed(place, ledger):
    place.anchor.unlink()
    with pytest.raises(LedgerError, match="has no anchor"):
        ledger.charge(ROWS, labels("a"), release())


@pytest.mark.parametrize("charges", [0, 1])
def test_the_ledger_of_another_party_is_refused(place, charges):
    other = Place(place.folder / "other")
    for one in (place, other):
        one.open().close()
        for number in range(charges):
            one.charge(number)
    shutil.copy(other.path, place.path)
    _refused(place, "do not belong together")


def test_a_ledger_named_wrongly_is_not_a_new_start(place):
    place.charge("a")
    place.path.rename(place.path.with_name("renamed.sqlite"))
    _refused(place, "was reset")


def test_an_anchor_put_back_from_a_copy_is_refused(place):
    place.charge("a")
    earlier = place.anchor.read_bytes()
    place.charge("b")
    place.charge("c")
    place.anchor.write_bytes(earlier)
    _refused(place, "the anchor of the disclosure ledger is older")


def test_a_database_ahead_by_a_message_that_does_not_follow_is_refused(place):
    place.charge("a")
    fork = _copy(place, "fork")
    place.charge("b")
    fork.charge("c")
    fork.charge("d")
    shutil.copy(fork.path, place.path)
    _refused(place, "do not belong together")


def _edit(place, **changes):
    values = json.loads(place.anchor.read_text()) | changes
    place.anchor.write_text(json.dumps({name: value for name, value in values.items() if value is not None}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"[" * 3000,
        b"x" * 5000,
        {"format": 2},
        {"key": "ab"},
        {"key": None},
        {"key": 5},
        {"head": "xy"},
        {"ledger": "ab"},
        {"counter": -1},
        {"counter": 1.0},
        {"counter": True},
        {"counter": "1"},
        {"counter": 2**63},
    ],
)
def test_a_damaged_anchor_is_refused_and_left_as_it_is(place, content):
    place.charge("a")
    if isinstance(content, bytes):
        place.anchor.write_bytes(content)
    else:
        _edit(place, **content)
    before = place.anchor.read_bytes()
    _refused(place, "the anchor of the disclosure ledger is damaged")
    assert place.anchor.read_bytes() == before


@pytest.mark.parametrize("changes", [{"key": "00" * 32}, {"head": "00" * 32}, {"ledger": "00" * 16}])
def test_an_anchor_that_was_changed_is_refused(place, changes):
    place.charge("a")
    _edit(place, **changes)
    _refused(place, "do not belong together")


# --- the end of a process, at any moment ---


def test_the_end_between_commit_and_anchor_leaves_a_charge_that_counts(place, monkeypatch):
    place.charge("a")
    with place.open() as ledger, monkeypatch.context() as patch:
        patch.setattr(AnchorFile, "write", _killed)
        with pytest.raises(Killed):
            ledger.charge(ROWS, labels("b"), release())
    assert place.charge("b") == Charged(0, 10, 0)
    assert place.charge("c") == Charged(10, 0, 3)
    with place.open() as ledger:
        ledger.verify()


def test_the_same_when_another_process_goes_on(place, ledger, monkeypatch):
    with place.open() as other, monkeypatch.context() as patch:
        patch.setattr(AnchorFile, "write", _killed)
        with pytest.raises(Killed):
            other.charge(ROWS, labels("b"), release())
    assert ledger.charge(ROWS, labels("b"), release()) == Charged(0, 10, 0)
    assert ledger.charge(ROWS, labels("c"), release()) == Charged(10, 0, 2)
    place.open().close()


def test_the_end_before_the_commit_leaves_nothing(place, monkeypatch):
    with place.open() as ledger, monkeypatch.context() as patch:
        patch.setattr(ledger_module, "record", _killed)
        with pytest.raises(Killed):
            ledger.charge(ROWS, labels("b"), release())
    assert place.charge("b") == Charged(10, 0, 1)


@pytest.mark.parametrize("at", ["write", "connect", "create", "_catch_up"])
def test_the_end_while_a_ledger_is_made_does_not_spoil_it(place, monkeypatch, at):
    where = {"write": AnchorFile, "_catch_up": ledger_module.DisclosureLedger}.get(at, ledger_module.schema)
    with monkeypatch.context() as patch:
        patch.setattr(where, at, _killed)
        with pytest.raises(Killed):
            place.open()
    assert place.charge("a") == Charged(10, 0, 1)


def test_a_draft_that_was_left_behind_is_replaced(place):
    place.charge("a")
    place.anchor.with_name(".ledger_anchor.draft").write_text("half an anch")
    assert place.charge("b") == Charged(10, 0, 2)
    assert {path.name for path in place.anchor.parent.iterdir()} == {"ledger_anchor", "ledger_anchor.lock"}


def _killed(*_, **__):
    raise Killed


UNTIL_KILLED = """
import sys
from support.fixtures.ledgers import *
place = Place(Path(sys.argv[1]))
with place.open() as ledger:
    print("open", flush=True)
    for number in range(10_000):
        ledger.charge(ROWS, labels(sys.argv[2], number), release())
        print(number, flush=True)
"""


def test_what_was_charged_before_a_kill_is_counted(place):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    charged = 0
    for attempt in range(4):
        command = [sys.executable, "-c", UNTIL_KILLED, str(place.folder), str(attempt)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            printed = [process.stdout.readline() for _ in range(3 + 2 * attempt)]
            process.send_signal(signal.SIGKILL)
            printed += process.stdout.readlines()
        assert printed[0] == "open\n"
        charged += len([line for line in printed if line.endswith("\n")]) - 1
        with place.open() as ledger:
            (spent,) = set(ledger.spent(ROWS))
            assert charged <= spent <= charged + 1
            charged = spent
            ledger.verify()


def test_the_database_is_flushed_before_the_anchor_and_the_anchor_before_the_release(place, ledger, monkeypatch):
    happened = []
    ledger._connection.set_trace_callback(happened.append)
    for name in ("fsync", "rename"):
        monkeypatch.setattr(os, name, _recorded(name, getattr(os, name), happened))
    assert ledger._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert ledger._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    ledger.charge(ROWS, labels("a"), release())
    # The file of the draft, its new name, and the directory.
    assert happened[happened.index("COMMIT") + 1 :] == ["fsync", "rename", "fsync"]


def _recorded(name, call, happened):
    def recorded(*arguments, **options):
        happened.append(name)
        return call(*arguments, **options)

    return recorded
