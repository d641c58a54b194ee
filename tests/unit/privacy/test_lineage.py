"""The hash chain of what has shaped the weights, and commitments that tell nothing and bind."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfl.errors import ProtocolError
from vfl.ids import StepKey
from vfl.privacy.lineage import DIGEST_BYTES, Lineage, commitment, digest
from vfl.privacy.releases import Releases

SECRET = bytes(range(32))
CONTENT = np.array([[1, -2, 3], [0, 5, -(2**50)]], dtype=np.int64)


@given(parts=st.lists(st.binary(max_size=9), max_size=4), others=st.lists(st.binary(max_size=9), max_size=4))
def test_no_two_lists_of_parts_have_one_digest(parts, others):
    assert (digest("a", *parts) == digest("a", *others)) == (parts == others)
    assert digest("a", *parts) != digest("b", *parts)


def test_a_chain_depends_on_its_statement_its_links_and_their_order():
    def head(statement: bytes, *links: bytes) -> bytes:
        chain = Lineage(statement)
        for link in links:
            chain.move_to(chain.extended(link))
        return chain.digest

    chains = [(b"s",), (b"t",), (b"s", b"x"), (b"s", b"y"), (b"s", b"x", b"y"), (b"s", b"y", b"x"), (b"s", b"xy")]
    assert len({head(*chain) for chain in chains}) == len(chains)
    assert head(b"s", b"x", b"y") == head(b"s", b"x", b"y")


def test_extending_a_chain_leaves_it_as_it_is():
    chain = Lineage(b"statement")
    before = chain.digest
    assert chain.extended(b"link") != before
    assert chain.digest == before


def test_an_equal_replay_has_an_equal_commitment():
    assert commitment(SECRET, "head", 3, content=CONTENT) == commitment(SECRET, "head", 3, content=CONTENT.copy())
    assert commitment(SECRET, "head", 3, content=np.asfortranarray(CONTENT)) == commitment(
        SECRET, "head", 3, content=CONTENT
    )


def test_any_other_content_shape_label_or_owner_has_another_commitment():
    changed = CONTENT.copy()
    changed[1, 2] += 1
    committed = [
        commitment(SECRET, "head", 3, content=CONTENT),
        commitment(SECRET, "head", 3, content=changed),
        commitment(SECRET, "head", 3, content=CONTENT.reshape(3, 2)),
        commitment(SECRET, "head", 4, content=CONTENT),
        commitment(SECRET, "other", 3, content=CONTENT),
        commitment(bytes(32), "head", 3, content=CONTENT),
    ]
    assert all(len(one) == DIGEST_BYTES for one in committed)
    assert len(set(committed)) == len(committed)


def test_who_lacks_the_secret_cannot_try_out_contents():
    """With few possible contents, anybody could otherwise hash them all and compare."""
    labels = [np.array(bits, dtype=np.int64)[:, None] for bits in itertools.product((0, 1), repeat=4)]
    committed = commitment(SECRET, "head", 1, content=labels[5])
    assert committed in {commitment(SECRET, "head", 1, content=label) for label in labels}
    for guess in (b"", bytes(32), committed):
        assert committed not in {commitment(guess, "head", 1, content=label) for label in labels}


def test_parties_that_follow_the_same_commitments_have_the_same_lineage():
    active = Releases("bank", b"statement", SECRET, 0.25, b"table of the bank")
    passives = [Releases(name, b"statement", bytes([at] * 32), 0.5, name.encode()) for at, name in enumerate("ab")]
    heads = [active.lineage]
    for step in range(1, 4):
        key = StepKey("run", step, step % 2)
        committed = active.commit(key, CONTENT + step)
        for side in (active, *passives):
            side.move_to(side.after_step(key, committed))
        assert {side.lineage for side in passives} == {active.lineage}
        heads.append(active.lineage)
    assert len(set(heads)) == 4


def test_the_number_of_an_attempt_and_the_name_of_a_run_change_nothing():
    """A recovered or repeated run is an equal replay; it draws the same noise."""
    sides = [Releases("bank", b"statement", SECRET, 0.25) for _ in range(2)]
    for side, key in zip(sides, (StepKey("run", 1, 0), StepKey("another-run", 1, 7)), strict=True):
        side.move_to(side.after_step(key, side.commit(key, CONTENT)))
    assert sides[0].lineage == sides[1].lineage


@pytest.mark.parametrize("length", [0, 31, 33])
def test_what_is_no_commitment_is_refused_and_moves_nothing(length):
    side = Releases("clinic", b"statement", SECRET, 0.25)
    before = side.lineage
    with pytest.raises(ProtocolError, match="does not have 32 bytes"):
        side.after_step(StepKey("run", 1, 0), bytes(length))
    assert side.lineage == before
