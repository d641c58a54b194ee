"""The chain of records: whatever was done to a log in the middle is found and named; any bytes are survived."""

import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.audit.log import GENESIS, MAX_LINE_BYTES, Chain, Closed, Crossed, Line, Opened, read_lines
from vfl.audit.summary import compare, read_half, summarize
from vfl.audit.verify import verify
from vfl.errors import AuditError
from vfl.messages import Protection

TIME = "2026-01-02T03:04:05.678Z"
OPENED = {
    "party": "clinic",
    "run": "job-1",
    "attempt": 0,
    "federation": "demo",
    "roles": {"bank": "active", "clinic": "passive"},
    "policy": {"allow_unencrypted": False, "max_epochs": None},
    "terms": {"protocol": "encrypted"},
    "job_digest": "model=1",
    "version": "0.1.0",
}


def message(**changes):
    facts = {"direction": "sent", "peer": "bank", "kind": "forward_share", "protection": Protection.MASKED, "step": 1}
    facts |= {"attempt": 0, "part": 0, "tensors": [], "bytes": 5, "digest": "ab" * 32}
    return facts | changes


def added(chain, event, **facts):
    line = chain.line(event, TIME, **facts)
    chain.written(line)
    return line


def make_log(messages, *, closed=True, **opened):
    chain = Chain()
    lines = [added(chain, Opened, **OPENED | opened)]
    lines += [added(chain, Crossed, **facts) for facts in messages]
    if closed:
        totals = {way: sum(m["bytes"] for m in messages if m["direction"] == way) for way in ("sent", "received")}
        facts = {"records": chain.records, "bytes_sent": totals["sent"], "bytes_received": totals["received"]}
        lines.append(added(chain, Closed, outcome="finished", dropped=0, **facts))
    return lines, chain.head


@pytest.fixture
def log():
    return make_log([message(step=step) for step in range(1, 6)])


def check(lines, head=None):
    return verify(read_lines(lines), head)


def test_a_complete_log_is_consistent(log):
    lines, head = log
    found = check(lines, head)
    assert (found.problems, found.records, found.head) == ([], 7, head)
    assert found.opened.policy == {"allow_unencrypted": False, "max_epochs": None}
    assert found.closed.outcome == "finished"
    assert json.loads(lines[0])["previous"] == GENESIS


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: [*x[:3], *x[4:]], "record 3 was removed or moved, before line 4"),
        (lambda x: [*x[:2], *x[5:]], "records 2 to 4 were removed"),
        (lambda x: x[1:], "record 0 was removed"),
        (lambda x: [*x[:2], x[3], x[2], *x[4:]], "record 2 was moved to line 4"),
        (lambda x: [*x[:3], x[1], *x[3:]], "record 1 appears again at line 4"),
        (lambda x: [*x[:2], x[2].replace(b'"bytes":5', b'"bytes":4'), *x[3:]], "record 2 (line 3) was changed"),
        (lambda x: [*x[:2], b"nonsense\n", *x[2:]], "line 3 is not a record"),
        (lambda x: [*x, x[3]], "comes after the closing record"),
        (lambda x: [], "there is no record"),
    ],
)
def test_tampering_with_a_log_is_detected_and_named(log, change, says):
    found = check(change(log[0]))
    assert any(says in problem for problem in found.problems), found.problems


def test_a_record_replaced_with_its_hash_made_anew_does_not_fit_its_successor(log):
    lines, _ = log
    chain = Chain()
    for step in range(2):
        added(chain, Crossed if step else Opened, **(message(step=1) if step else OPENED))
    forged = chain.line(Crossed, TIME, **message(step=2, bytes=4))
    assert "record 3 (line 4) does not follow" in check([*lines[:2], forged, *lines[3:]]).problems[0]


def test_truncation_shows_only_by_the_closing_record_or_the_head(log):
    lines, head = log
    cut = check(lines[:-2])
    assert (cut.intact, cut.closed) == (True, None)
    assert "truncated or rewritten" in check(lines[:-2], head).problems[0]
    anew, _ = make_log([message(step=9)])
    assert check(anew).intact
    assert not check(anew, head).intact
    early_head = json.loads(lines[3])["hash"]
    assert "continued after it" in check(lines, early_head).problems[0]


def test_a_killed_process_leaves_a_log_that_is_readable_to_its_last_complete_record(log):
    lines, _ = log
    found = check([*lines[:3], lines[3][:40]])
    assert (found.intact, found.torn, found.records, found.closed) == (True, True, 3, None)


@settings(deadline=None)  # a busy machine is no defect
@given(st.integers(0, 6), st.integers(0, 1 << 30), st.integers(0, 255))
def test_no_changed_byte_goes_unnoticed(line, position, value):
    lines, head = make_log([message(step=step) for step in range(1, 6)])
    position %= len(lines[line]) - 1
    changed = bytearray(lines[line])
    if changed[position] == value:
        return
    changed[position] = value
    assert not check([*lines[:line], bytes(changed), *lines[line + 1 :]], head).intact


FRAGMENTS = st.sampled_from(
    [
        b"\n",
        b"{",
        b"[" * 5000,
        b'"n":1',
        b',"hash":"' + b"0" * 64 + b'"}',
        b"1" * 5000,
        b"\xff\x00",
        b"x" * MAX_LINE_BYTES,
    ]
)


@settings(deadline=None)  # a busy machine is no defect
@given(st.lists(st.one_of(st.binary(max_size=200), FRAGMENTS, st.sampled_from(make_log([message()])[0])), max_size=12))
def test_any_bytes_are_read_to_their_end(pieces):
    for read in (lambda: check(pieces), lambda: summarize(read_lines(pieces)), lambda: read_half(read_lines(pieces))):
        read()
    assert sum(len(piece) for piece in pieces) or not check(pieces).intact


def test_a_line_without_end_is_not_kept(log):
    tracemalloc.start()
    assert list(read_lines(b"x" * 10_000 for _ in range(1000))) == [None]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * MAX_LINE_BYTES
    lines = [b"x" * MAX_LINE_BYTES, b"x\n", *log[0]]
    assert check(lines).problems[0] == "line 1 is not a record of an audit log"


@pytest.mark.parametrize("changes", [{"kind": "two words"}, {"bytes": -1}, {"digest": "short"}, {"content": b"x"}])
def test_what_does_not_belong_into_a_log_is_refused(changes):
    with pytest.raises(AuditError):
        Chain().line(Crossed, TIME, **message(**changes))


def test_a_record_is_one_line_whatever_it_contains():
    line = Chain().line(Opened, TIME, **OPENED | {"job_digest": 'a\n"b"\u2028'})
    assert line.count(b"\n") == 1
    assert Line(1, line[:-1]).intact


# --- summary and comparison ---


def test_a_summary_counts_in_plain_words_and_names_what_was_in_the_clear():
    clear = message(kind="clear_activations", protection=Protection.CLEAR, bytes=7)
    asked = message(direction="received", peer="hub", kind="phase_call", protection=Protection.PUBLIC)
    asked |= {"batch": {"phase": "top", "split": "train", "epoch": 0, "index": 3}}
    lines, _ = make_log([message(step=1), message(step=2), clear, asked])
    found = summarize(read_lines(lines))
    first = found.left()[0]
    assert (first.messages, first.bytes, first.first_step, first.last_step) == (2, 10, 1, 2)
    assert first.meaning.startswith("clinic's part of Z in each batch, masked: bank reads clinic's noisy part")
    assert [(flow.kind, flow.bytes) for flow in found.in_the_clear] == [("clear_activations", 7)]
    assert found.batches == {("train", 0): 1}
    assert (found.party, found.verification.problems) == ("clinic", [])


def halves(sent, received, **opened):
    clinic, _ = make_log([message(**m) for m in sent])
    facts = [message(direction="received", peer="clinic", **m) for m in received]
    bank, _ = make_log(facts, **{"party": "bank"} | opened)
    return read_half(read_lines(clinic)), read_half(read_lines(bank))


def test_two_logs_of_the_same_messages_agree_in_any_order():
    found = compare(*halves([{"step": 1}, {"step": 2}], [{"step": 2}, {"step": 1}]))
    assert (found.parties, found.agreed, found.differences) == (("clinic", "bank"), 2, [])


@pytest.mark.parametrize(
    ("sent", "received", "what"),
    [
        ([{"step": 1}], [], "missing"),
        ([], [{"step": 1}], "unsent"),
        ([{"step": 1}], [{"step": 1, "digest": "cd" * 32}], "different"),
        ([{"step": 1}], [{"step": 1, "protection": Protection.CLEAR}], "different"),
        ([{"step": 1}, {"step": 1}], [{"step": 1}], "missing"),
        ([{"step": 1}, {"step": 1, "part": 1}], [{"step": 1}], "missing"),
    ],
)
def test_a_message_that_only_one_side_logged_is_named(sent, received, what):
    (found,) = compare(*halves(sent, received)).differences
    assert (found.what, found.sender, found.receiver, found.step) == (what, "clinic", "bank", 1)


@pytest.mark.parametrize("opened", [{"run": "job-2"}, {"party": "clinic"}])
def test_logs_of_other_jobs_or_of_one_party_are_not_compared(opened):
    with pytest.raises(AuditError, match="not the logs of two parties of one run"):
        compare(*halves([], [], **opened))


def test_an_inconsistent_log_is_not_compared():
    lines, _ = make_log([message(), message()])
    broken, whole = read_half(read_lines([lines[0], *lines[2:]])), read_half(read_lines(lines))
    with pytest.raises(AuditError, match="is not consistent"):
        compare(broken, whole)
