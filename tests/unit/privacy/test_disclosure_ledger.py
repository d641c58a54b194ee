"""The disclosure ledger: every distinct release of a row counts once, over all runs, and the limit holds."""

import hashlib
import os
import sqlite3
import stat
import threading
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixtures.ledgers import ROWS, labels, release

from vfl.errors import ParameterError, PolicyRefusal, VflError
from vfl.privacy.ledger.ledger import DisclosureLedger
from vfl.privacy.ledger.release import MAX_NAME, Charged, Purpose
from vfl.privacy.ledger.summary import describe


def test_a_release_counts_once_and_an_equal_replay_costs_nothing(place):
    assert place.charge("step 1") == Charged(10, 0, 1)
    assert place.charge("step 1") == Charged(0, 10, 0)  # the process was restarted
    assert place.charge("step 2") == Charged(10, 0, 2)
    with place.open() as ledger:
        assert ledger.spent([*ROWS, "never released"]) == [2] * 10 + [0]
        assert ledger.charge(ROWS[:3], labels("step 1")[:3], release()) == Charged(0, 3, 0)
        mixed = [*labels("step 1")[:3], *labels("step 3")[3:]]
        assert ledger.charge(ROWS, mixed, release()) == Charged(7, 3, 3)
        ledger.verify()


def test_runs_jobs_and_purposes_add_up(place):
    place.charge("a")
    place.charge("b", run="credit-00000000")
    place.charge("c", run="fraud-1", job="fraud")
    assert place.charge("d", purpose=Purpose.EVALUATION, run="credit-2") == Charged(10, 0, 4)


def test_an_equal_release_of_another_run_is_a_replay_too(place):
    """A job that is run again, equally, draws the same noise: the label decides, not the run's name."""
    place.charge("step 1", context=b"same")
    assert place.charge("step 1", context=b"same", run="credit-2") == Charged(0, 10, 0)
    # A label counts under its context. One that is charged under another context is counted again: the safe side.
    assert place.charge("step 1", context=b"other") == Charged(10, 0, 2)


def test_the_limit_refuses_the_whole_message_and_says_who_spent_what(place):
    place.charge("a", run="fraud-1", job="fraud")
    with place.open() as ledger:
        ledger.charge(ROWS[:4], labels("b")[:4], release(purpose=Purpose.EVALUATION), limit=2)
        for _ in range(2):
            with pytest.raises(PolicyRefusal, match="rows are at their limit of releases") as raised:
                ledger.charge(ROWS, labels("c"), release(run="credit-9"), limit=2)
            assert "4 of 10 rows would be released more than 2 times" in raised.value.detail
            assert "credit-1a2b3c4d (job credit, evaluation): 4 rows; fraud-1 (job fraud, training): 4 rows" in (
                raised.value.detail
            )
            assert "policy.max_releases_per_row" in raised.value.remedy
            crossing = raised.value.summary + raised.value.remedy
            assert not any(part in crossing for part in ("fraud", "credit", "patient", "4", "10"))
        assert ledger.spent(ROWS) == [2] * 4 + [1] * 6
        # Other rows, and replays of what is at the limit, are free to leave.
        assert ledger.charge(ROWS[4:], labels("c")[4:], release(run="credit-9"), limit=2) == Charged(6, 0, 2)
        assert ledger.charge(ROWS, labels("a"), release(run="fraud-1", job="fraud"), limit=2) == Charged(0, 10, 0)
        assert ledger.charge(ROWS, labels("a"), release(run="fraud-1", job="fraud"), limit=1) == Charged(0, 10, 0)
        ledger.verify()
    assert [use.run for use in _summary(place).uses] == ["fraud-1", "credit-1a2b3c4d", "credit-9"]


def _summary(place):
    with place.open() as ledger:
        return ledger.summary()


def test_of_many_runs_the_latest_are_named(ledger):
    for number in range(8):
        ledger.charge(ROWS, labels(number), release(run=f"credit-{number}"))
    with pytest.raises(PolicyRefusal) as raised:
        ledger.charge(ROWS, labels("x"), release(), limit=8)
    assert "credit-7 (" in raised.value.detail
    assert "credit-2 (" not in raised.value.detail
    assert raised.value.detail.endswith("and 3 more")


def test_two_releases_of_a_row_in_one_message_are_two(ledger):
    twice = [ROWS[0], ROWS[0], ROWS[0]]
    with pytest.raises(PolicyRefusal, match="limit") as raised:
        ledger.charge(twice, [b"a", b"b", b"a"], release(), limit=1)
    assert "1 of 1 rows would be released more than 1 times" in raised.value.detail
    assert raised.value.detail.endswith("none")
    assert ledger.charge(twice, [b"a", b"b", b"a"], release(), limit=2) == Charged(2, 0, 2)


def test_text_and_its_bytes_are_the_same_row(ledger):
    odd = ["", "é", "\0", "\ud800", "x" * 10_000]
    ledger.charge(odd, [b"label"] * 5, release())
    again = [row.encode("utf-8", "surrogatepass") for row in odd]
    assert ledger.charge(again, [b"label"] * 5, release()) == Charged(0, 5, 0)
    assert ledger.spent([*odd, *again]) == [1] * 10


def test_a_label_belongs_to_its_row(ledger):
    assert ledger.charge(["a", "b"], [b"same", b"same"], release()) == Charged(2, 0, 1)


def test_nothing_is_charged_for_nothing(place):
    with place.open() as ledger:
        assert ledger.charge([], [], release()) == Charged(0, 0, 0)
        assert ledger.spent([]) == []
        assert ledger.summary().rows == 0
        assert list(describe(ledger.summary())) == ["nothing has been released yet"]
        ledger.verify()


@pytest.mark.parametrize(
    ("rows", "given", "limit", "error", "why"),
    [
        (ROWS, labels("a")[1:], None, ValueError, "10 rows and 9 labels"),
        (ROWS[1:], labels("a"), None, ValueError, "9 rows and 10 labels"),
        (ROWS, labels("a"), 0, ValueError, "a limit of 0"),
        (ROWS, labels("a"), -1, ValueError, "a limit of -1"),
        ([1, 2], [b"a", b"b"], None, TypeError, "int"),
        ([None], [b"a"], None, TypeError, "None"),
        (["a"], ["text"], None, TypeError, "str"),
        (["a"], [5], None, TypeError, "int"),
    ],
)
def test_arguments_that_make_no_sense_charge_nothing(ledger, rows, given, limit, error, why):
    with pytest.raises(error, match=why):
        ledger.charge(rows, given, release(), limit)
    assert ledger.summary().rows == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"sigma": 0.0},
        {"sigma": -1.0},
        {"sigma": float("nan")},
        {"sigma": float("inf")},
        {"sigma": 1e-300},
        {"bound": -1.0},
        {"bound": float("inf")},
        {"bound": float("nan")},
        {"width": 0},
        {"width": 2**31},
        {"width": 1.5},
        {"run": ""},
        {"run": "a\nb"},
        {"run": "x" * (MAX_NAME + 1)},
        {"run": "\ud800"},
        {"job": None},
        {"purpose": "something"},
        {"time": float("nan")},
    ],
)
def test_a_release_out_of_range_cannot_be_counted(changes):
    with pytest.raises(ParameterError, match="a release cannot be counted") as raised:
        release(**changes)
    assert f"its {next(iter(changes))} is out of range" in raised.value.detail


def test_the_summary_adds_up(place):
    place.charge("a", time=5.0)
    place.charge("b", time=3.0, bound=3.0)
    with place.open() as ledger:
        ledger.charge(ROWS[:5], labels("c")[:5], release(run="credit-2", purpose=Purpose.EVALUATION, sigma=1.0))
        found = ledger.summary()
    assert (found.rows, found.releases, found.most, found.mean) == (10, 25, 3, 2.5)
    assert found.distribution == {2: 5, 3: 5}
    first, second = found.uses
    assert (first.run, first.job, first.purpose) == ("credit-1a2b3c4d", "credit", "training")
    assert (first.width, first.sigma, first.bound, first.rows, first.releases) == (2, 0.5, 3.0, 10, 20)
    assert (first.first, first.last) == (3.0, 5.0)
    assert first.information == pytest.approx(10 * 2 * (1.5 / 0.5) ** 2 + 10 * 2 * (3.0 / 0.5) ** 2)
    assert (second.purpose, second.rows, second.releases, second.information) == ("evaluation", 5, 5, 22.5)
    assert found.information == pytest.approx(18 + 72 + 4.5)
    lines = list(describe(found, limit=3))
    assert lines[:3] == [
        "10 rows were released 25 times under noise",
        "releases per row: 2.5 on average, 3 at most",
        "limit: 3 (policy.max_releases_per_row); 5 rows are at it",
    ]
    assert lines[4] == (
        "run credit-1a2b3c4d (job credit, training): 20 releases of 10 rows, K 2, sigma 0.5, signal up to 3,"
        " information 90 per row"
    )
    assert "limit: none" in list(describe(found))[2]


CHARGE = st.tuples(
    st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 3)), max_size=8),  # rows and labels
    st.sampled_from(["one", "two"]),  # context
    st.sampled_from(["run-1", "run-2"]),
    st.one_of(st.none(), st.integers(1, 4)),  # limit
)


@given(st.lists(CHARGE, max_size=12))
def test_any_sequence_of_charges_counts_as_a_set_of_labels_does(charges):
    known, spent = set(), defaultdict(set)
    with DisclosureLedger.in_memory() as ledger:
        for pairs, context, run, limit in charges:
            asked = {(context, row, label) for row, label in pairs}
            new = asked - known
            after = {row: len(spent[row] | {one for one in new if one[1] == row}) for _, row, _ in new}
            rows, given_labels = [row for row, _ in pairs], [b"%d" % label for _, label in pairs]
            of = release(run=run, context=context.encode())
            if limit is not None and max(after.values(), default=0) > limit:
                with pytest.raises(PolicyRefusal):
                    ledger.charge(rows, given_labels, of, limit)
                continue
            expected = Charged(len(new), len(asked) - len(new), max(after.values(), default=0))
            assert ledger.charge(rows, given_labels, of, limit) == expected
            known |= new
            for one in new:
                spent[one[1]].add(one)
        assert ledger.spent("abcde") == [len(spent[row]) for row in "abcde"]
        found = ledger.summary()
        assert (found.releases, sum(use.releases for use in found.uses)) == (len(known), len(known))
        ledger.verify()


def test_no_file_reveals_an_id_or_a_label_or_lets_guesses_be_tested(place):
    with place.open() as ledger:
        ledger.charge(ROWS, labels("a"), release())
        content = {file.name: file.read_bytes() for file in place.folder.rglob("*") if file.is_file()}
    for row, label in zip(ROWS, labels("a"), strict=True):
        for known in (row.encode(), hashlib.sha256(row.encode()).digest()[:16], label[:16]):
            assert not any(known in text for text in content.values())
    key = bytes.fromhex(place.anchor.read_text().split('"key": "')[1].split('"')[0])
    assert not any(key in text or key.hex().encode() in text for name, text in content.items() if "sqlite" in name)


def test_equal_rows_look_different_in_two_ledgers(tmp_path):
    def stored(ledger):
        ledger.charge(ROWS, labels("a"), release())
        return {row for (row,) in ledger._connection.execute("SELECT row FROM rows")}

    with DisclosureLedger.in_memory() as one, DisclosureLedger.in_memory() as other:
        assert not stored(one) & stored(other)


def test_only_the_owner_can_read_the_files(place):
    before = os.umask(0)
    try:
        with place.open() as ledger:
            ledger.charge(ROWS, labels("a"), release())
            files = [file for file in place.folder.rglob("*") if file.is_file()]
            names = {file.name for file in files}
    finally:
        os.umask(before)
    database = {"ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"}
    assert names == {*database, "ledger_anchor", "ledger_anchor.lock"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files if file.exists()} == {0o600}
    assert stat.S_IMODE(place.anchor.parent.stat().st_mode) == 0o700


def test_jobs_of_one_party_charge_side_by_side(place):
    def work(name):
        try:
            with place.open() as own:
                for number in range(5):
                    shared.charge(ROWS, labels(name, number, "shared"), release(run=name))
                    own.charge(ROWS, labels(name, number, "own"), release(run=name))
        except (VflError, sqlite3.Error) as error:
            errors.append(error)

    errors = []
    with place.open() as shared:
        threads = [threading.Thread(target=work, args=(f"run-{number}",)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert shared.spent(ROWS) == [30] * 10
        shared.verify()


def test_a_ledger_in_memory_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with DisclosureLedger.in_memory() as ledger:
        assert ledger.charge(ROWS, labels("a"), release(), limit=1) == Charged(10, 0, 1)
        assert ledger.charge(ROWS, labels("a"), release(), limit=1) == Charged(0, 10, 0)
        with pytest.raises(PolicyRefusal):
            ledger.charge(ROWS, labels("b"), release(), limit=1)
        ledger.verify()
    assert list(tmp_path.iterdir()) == []
