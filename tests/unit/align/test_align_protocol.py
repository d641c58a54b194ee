"""Private set intersection of several parties in memory: it finds the intersection, and shows what it says and no more.

The same exchanges run over gRPC in ``tests/integration/test_alignment.py``.
"""

import hashlib
import tracemalloc
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.layers.exchanges import Transcript, run_exchanges

from vfl.align import sets
from vfl.align.curve import hash_to_curve, id_digests
from vfl.align.protocol import Alignment
from vfl.align.sets import BlindedIds
from vfl.errors import AlignmentError, PolicyRefusal, ProtocolError
from vfl.job.policy import PolicyConfig
from vfl.messages import BlindedIdList, CommonIdCount, CommonIds, FullyBlindedIdList, IdCount
from vfl.messages.exchange import Send

NAMES = ("bank", "clinic", "telco", "insurer")
JOB = "job-1"
some_ids = st.lists(st.text("abcé", min_size=1, max_size=2), unique=True, min_size=1, max_size=12)


def _alignments(tables, least=1, job=JOB):
    names = NAMES[: len(tables)]
    check = PolicyConfig(min_aligned_rows=least).check_rows
    return {
        name: Alignment(names, name, BlindedIds(pl.Series(ids, dtype=pl.String), job, 1), check)
        for name, ids in zip(names, tables, strict=True)
    }


def _whole(alignment):
    yield from alignment.count()
    return (yield from alignment.reveal())


def _align(tables, least=1, job=JOB):
    """The ids that each party ends with, and what crossed."""
    transcript = Transcript()
    alignments = _alignments(tables, least, job)
    rows = run_exchanges({name: _whole(alignment) for name, alignment in alignments.items()}, transcript)
    return [[ids[row] for row in rows[name]] for name, ids in zip(NAMES, tables, strict=False)], transcript


@settings(deadline=None, max_examples=40)
@given(tables=st.lists(some_ids, min_size=2, max_size=5).map(lambda tables: tables[:4]))
def test_every_party_finds_the_intersection_of_all(tables):
    common = set.intersection(*map(set, tables))
    if not common:
        with pytest.raises(AlignmentError, match="no id in common"):
            _align(tables)
        return
    for found, ids in zip(_align(tables)[0], tables, strict=True):
        assert found == [identity for identity in ids if identity in common]


@settings(deadline=None, max_examples=20)
@given(shuffler=st.randoms())
def test_the_order_of_the_tables_does_not_matter(shuffler):
    tables = [[f"{number}" for number in range(start, start + 9)] for start in (0, 2, 4)]
    for table in tables:
        shuffler.shuffle(table)
    assert all(sorted(found) == ["4", "5", "6", "7", "8"] for found in _align(tables)[0])


@pytest.mark.parametrize("sizes", [(3, 8), (8, 3), (7, 4, 9)])
def test_lists_of_different_numbers_of_parts(sizes, monkeypatch):
    monkeypatch.setattr(sets, "PART_POINTS", 3)
    monkeypatch.setattr("vfl.align.protocol.PART_POINTS", 3)
    tables = [[str(number) for number in range(size)] for size in sizes]
    assert all(len(found) == min(sizes) for found in _align(tables)[0])


# --- what is shown ---


def _points(transcript, kinds=(BlindedIdList, FullyBlindedIdList), receiver=None):
    return [
        row.tobytes()
        for _, to, message in transcript.sent
        if isinstance(message, kinds) and receiver in (None, to)
        for row in next(iter(message.tensors().values()))
    ]


@pytest.mark.parametrize("parties", [2, 3, 4])
def test_no_party_receives_an_id_or_a_hash_of_one(parties):
    ids = [f"customer-{number:03d}" for number in range(20)]
    _, transcript = _align([ids[at:] for at in range(parties)])
    everything = b"".join(t.tobytes() for _, _, message in transcript.sent for t in message.tensors().values())
    for identity in ids:
        digest = id_digests([identity], JOB)
        plain = (hashlib.sha256(identity.encode()).digest(), digest, hash_to_curve(digest))
        for known in (identity.encode(), *(value[:16] for value in plain)):
            assert known not in everything


def test_the_same_ids_look_different_in_every_job_and_every_attempt_with_new_secrets():
    ids = [str(number) for number in range(10)]
    seen = [set(_points(_align([ids, ids], job=job)[1])) for job in (JOB, JOB, "job-2")]
    assert len(set.union(*seen)) == sum(map(len, seen))


@pytest.mark.parametrize("parties", [2, 3, 4])
def test_the_active_party_compares_lists_that_all_others_have_shuffled(parties):
    """Its own list comes back blinded by all in an order that only the others know, until they tell."""
    ids = [str(number) for number in range(200)]
    alignments = _alignments([ids] * parties)
    transcript = Transcript()
    run_exchanges({name: alignment.count() for name, alignment in alignments.items()}, transcript)
    assert not [message for _, _, message in transcript.sent if isinstance(message, CommonIds)]
    active = alignments["bank"]
    sent = np.concatenate([m.points for who, to, m in transcript.sent if who == "bank" and to == "clinic"
                           and isinstance(m, BlindedIdList)])[: len(ids)]  # fmt: skip
    returned = next(m.tags for who, _, m in transcript.sent if who == NAMES[parties - 1]
                    and isinstance(m, FullyBlindedIdList))  # fmt: skip
    fully = sent
    for name in NAMES[1:parties]:
        fully = alignments[name]._own.reblind(fully, "test")
    assert {row.tobytes() for row in returned} == {row[:16].tobytes() for row in fully}
    moved = sum(a.tobytes() != b[:16].tobytes() for a, b in zip(returned, fully, strict=True))
    assert moved > len(ids) * 0.9
    assert active.sizes == dict.fromkeys(NAMES[:parties], len(ids))


def test_nobody_else_sees_a_list_that_all_have_blinded():
    """Whoever had two of them could tell which ids two parties share."""
    ids = [str(number) for number in range(30)]
    _, transcript = _align([ids, ids[5:], ids[9:]])
    compared = set(_points(transcript, FullyBlindedIdList))
    for name in NAMES[1:3]:
        assert not compared & {point[:16] for point in _points(transcript, BlindedIdList, name)}
    assert not _points(transcript, FullyBlindedIdList, "clinic")


# --- policy ---


def test_too_few_common_ids_are_refused_before_anybody_learns_which():
    transcript = Transcript()
    alignments = _alignments([list("abcdef"), list("defghi")], least=4)
    with pytest.raises(PolicyRefusal, match="only 3 rows are aligned, fewer than 4"):
        run_exchanges({name: _whole(alignment) for name, alignment in alignments.items()}, transcript)
    assert not {CommonIds, CommonIdCount} & {type(message) for _, _, message in transcript.sent}


@pytest.mark.parametrize("refusing", NAMES[1:3])
def test_a_passive_party_that_refuses_the_number_keeps_the_others_from_learning_which(refusing):
    tables = [list("abcdef"), list("defghi"), list("defxyz")]
    alignments = _alignments(tables)
    alignments[refusing]._check_rows = PolicyConfig(min_aligned_rows=4).check_rows
    exchanges = {name: _whole(alignment) for name, alignment in alignments.items()}
    transcript = Transcript()
    with pytest.raises((PolicyRefusal, AssertionError)):
        run_exchanges(exchanges, transcript)
    assert not [m for sender, _, m in transcript.sent if sender == refusing and isinstance(m, CommonIds)]


def test_a_table_that_is_too_small_is_refused_before_anything_is_blinded():
    transcript = Transcript()
    alignments = _alignments([list("abc"), list("abcdef")], least=4)
    with pytest.raises(PolicyRefusal, match="only 3 rows"):
        run_exchanges({name: _whole(alignment) for name, alignment in alignments.items()}, transcript)
    assert {type(message) for _, _, message in transcript.sent} == {IdCount}


def test_own_ids_leave_in_an_order_that_is_not_the_tables():
    ids = pl.Series([str(number) for number in range(200)])
    first_half = np.arange(200) < 100
    orders = [BlindedIds(ids, JOB, 1).rows(first_half).tolist() for _ in range(2)]
    assert orders[0] != orders[1]
    assert all(len(set(order) - set(range(100))) > 25 for order in orders)


# --- a repeated attempt ---


def test_a_repeated_attempt_sends_what_was_blinded_before_and_hashes_nothing_again(monkeypatch):
    own = BlindedIds(pl.Series(["a", "b", "c"]), JOB, 1)
    first = own.part(0).copy()
    own.close()
    monkeypatch.setattr(sets, "id_digests", lambda *_: pytest.fail("hashed again"))
    np.testing.assert_array_equal(own.part(0), first)


# --- malformed messages ---


def _tampered(exchange, kind, change):
    """The exchange with every message of a kind changed before it is sent."""
    received = None
    while True:
        try:
            request = exchange.send(received)
        except StopIteration as stop:
            return stop.value
        if isinstance(request, Send) and isinstance(request.message, kind):
            request = replace(request, message=change(request.message))
        received = yield request


def _points_with(row):
    def change(message):
        points = message.points.copy()
        points[1] = np.frombuffer(row, np.uint8)
        return BlindedIdList(points)

    return change


MALFORMED = {
    "a zero point": (BlindedIdList, _points_with(bytes(32)), "clinic sent a blinded id that is a point of small order"),
    "another point of small order": (BlindedIdList, _points_with((1).to_bytes(32, "little")), "small order"),
    "too few points": (BlindedIdList, lambda m: BlindedIdList(m.points[1:]), r"clinic sent a list of .* \(4, 32\)"),
    "too many points": (BlindedIdList, lambda m: BlindedIdList(np.repeat(m.points, 2, 0)), r"expected \(5, 32\)"),
    "points too short": (BlindedIdList, lambda m: BlindedIdList(m.points[:, :31].copy()), r"expected \(5, 32\)"),
    "too few tags": (FullyBlindedIdList, lambda m: FullyBlindedIdList(m.tags[1:]), r"expected \(5, 16\)"),
    "a tag twice": (FullyBlindedIdList, lambda m: FullyBlindedIdList(m.tags[[0, 0, 1, 2, 3]]), "a duplicate id"),
    "a negative number": (IdCount, lambda m: IdCount(-m.rows), "invalid number of ids"),
    "an absurd number": (IdCount, lambda m: IdCount(m.rows + (1 << 40)), "invalid number of ids"),
    "two numbers": (IdCount, lambda m: IdCount(np.repeat(m.rows, 2)), "invalid number of ids"),
    "other members": (CommonIds, lambda m: CommonIds(m.members * 0), "does not match the number of common ids"),
    "too many members": (CommonIds, lambda m: CommonIds(np.repeat(m.members, 2)), "does not match"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_messages_are_refused_and_name_their_sender(name):
    kind, change, says = MALFORMED[name]
    alignments = _alignments([list("abcde"), list("cdefg")])
    exchanges = {name: _whole(alignment) for name, alignment in alignments.items()}
    exchanges["clinic"] = _tampered(exchanges["clinic"], kind, change)
    with pytest.raises(ProtocolError, match=says):
        run_exchanges(exchanges)


def test_memory_grows_with_what_a_peer_sends_not_with_what_it_announces():
    alignment = _alignments([["1", "2"], ["1", "2"]])["bank"]
    exchange = alignment.count()
    next(exchange)
    exchange.send(None)
    tracemalloc.start()
    try:
        exchange.send(IdCount(np.array([2**31 - 1])))
        exchange.send(None)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
        exchange.close()


def _one_less(message):
    """The same number or members, without one of them."""
    if isinstance(message, CommonIdCount):
        return CommonIdCount(message.rows - 1)
    members = np.unpackbits(message.members)
    members[members.argmax()] = 0
    return CommonIds(np.packbits(members))


def test_an_active_party_that_tells_two_parties_different_numbers_is_named():
    """The first to notice is an honest party, about a list that another honest one has passed on."""
    ids = [f"{number}" for number in range(20)]
    alignments = _alignments([ids, ids, ids])

    def telling_telco_less():
        steps, received = _whole(alignments["bank"]), None
        while True:
            try:
                step = steps.send(received)
            except StopIteration as stop:
                return stop.value
            received = None
            if not isinstance(step, Send) or not isinstance(step.message, CommonIdCount | CommonIds):
                received = yield step
                continue
            for name in step.to:
                yield Send((name,), _one_less(step.message) if name == "telco" else step.message, step.part)

    exchanges = {name: _whole(alignment) for name, alignment in alignments.items()} | {"bank": telling_telco_less()}
    with pytest.raises(ProtocolError, match=r"telco sent a list .* that bank stated"):
        run_exchanges(exchanges, Transcript())
