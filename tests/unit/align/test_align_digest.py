import hashlib
import hmac

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vfl.align import check_same_ids, id_set_digest
from vfl.errors import AlignmentError, ParameterError

KEY = bytes(range(32))
id_lists = st.lists(st.text(min_size=1), unique=True, max_size=20)


@given(ids=id_lists, shuffler=st.randoms())
def test_digest_does_not_depend_on_the_order(ids, shuffler):
    other = list(ids)
    shuffler.shuffle(other)
    assert id_set_digest(ids, KEY) == id_set_digest(other, KEY)


@given(ids=id_lists, other=id_lists)
def test_different_sets_have_different_digests(ids, other):
    assume(set(ids) != set(other))
    assert id_set_digest(ids, KEY) != id_set_digest(other, KEY)


def test_boundaries_between_ids_count():
    assert id_set_digest(["ab", "c"], KEY) != id_set_digest(["a", "bc"], KEY)


def test_digest_depends_on_the_key():
    assert id_set_digest(["a"], KEY) != id_set_digest(["a"], KEY[::-1])


def test_digest_is_the_documented_one():
    message = b"vfl id set v1\0" + (2).to_bytes(8, "big")
    message += (1).to_bytes(8, "big") + b"a" + (2).to_bytes(8, "big") + "é".encode()
    assert id_set_digest(["é", "a"], KEY) == hmac.digest(KEY, message, hashlib.sha256)


def test_short_key_is_refused():
    with pytest.raises(ParameterError, match="too short"):
        id_set_digest(["a"], b"short")


def test_same_ids_pass():
    digest = id_set_digest(["a", "b"], KEY)
    check_same_ids(2, digest, "bank", 2, digest)


def test_different_counts_are_named():
    with pytest.raises(AlignmentError) as caught:
        check_same_ids(2, id_set_digest(["a", "b"], KEY), "bank", 3, id_set_digest(["a", "b", "c"], KEY))
    assert "'bank'" in caught.value.summary
    assert "2 rows here and 3 there" in caught.value.summary
    assert "same set of customers" in caught.value.remedy


def test_equal_counts_of_different_ids_are_refused_without_naming_an_id():
    with pytest.raises(AlignmentError) as caught:
        check_same_ids(1, id_set_digest(["alice"], KEY), "bank", 1, id_set_digest(["berta"], KEY))
    assert "1 rows at both" in caught.value.summary
    assert "alice" not in str(caught.value)
    assert "berta" not in str(caught.value)


def test_equal_digests_do_not_excuse_different_counts():
    digest = id_set_digest(["a"], KEY)
    with pytest.raises(AlignmentError):
        check_same_ids(1, digest, "bank", 2, digest)


def test_digest_of_wrong_length_is_refused():
    digest = id_set_digest(["a"], KEY)
    with pytest.raises(AlignmentError):
        check_same_ids(1, digest, "bank", 1, digest[:16])
