import io

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from vfl.align.curve import SmallOrderPoint, blind_digests, blind_points, hash_to_curve, id_digests
from vfl.align.worker import DIGESTS, HEADER, POINTS, REFUSED, RESULT, SECRET, serve

PRIME = 2**255 - 19
A, B = (X25519PrivateKey.generate().private_bytes_raw() for _ in range(2))
# u = 0, 1, -1 and the points of order 8 (https://cr.yp.to/ecdh.html#validate)
SMALL_ORDER_POINTS = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (PRIME - 1).to_bytes(32, "little"),
    PRIME.to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]

points = st.binary(min_size=32, max_size=32).filter(lambda u: u not in SMALL_ORDER_POINTS)


@given(u=points)
def test_blinding_commutes_on_the_curve_and_on_its_twist(u):
    assert blind_points(A, blind_points(B, u)) == blind_points(B, blind_points(A, u))


@given(identity=st.text(), job=st.text(min_size=1))
def test_every_id_is_hashed_to_the_curve_and_none_to_the_twist(identity, job):
    """Else a blinded id would show one bit of its hash: multiples of a point lie where the point does."""
    encoded = hash_to_curve(id_digests([identity], job))
    u = int.from_bytes(encoded, "little") & (2**255 - 1)
    square = u * (u * (u + 486662) + 1) % PRIME
    assert pow(square, (PRIME - 1) // 2, PRIME) == 1


def test_both_kinds_of_candidates_occur_so_that_the_test_above_could_fail():
    squares = {pow(u * (u * (u + 486662) + 1), (PRIME - 1) // 2, PRIME) for u in range(2, 40)}
    assert squares == {1, PRIME - 1}


@given(job=st.text(max_size=8), other=st.text(max_size=8), identity=st.text(max_size=8))
def test_hashes_are_bound_to_the_job(job, other, identity):
    assert (id_digests([identity], job) == id_digests([identity], other)) == (job == other)
    if identity:  # where the name ends and the id begins counts
        assert id_digests([identity], job) != id_digests([identity[1:]], job + identity[0])


@pytest.mark.parametrize("point", SMALL_ORDER_POINTS, ids=lambda point: point.hex()[:8])
def test_points_of_small_order_are_refused_among_others(point):
    with pytest.raises(SmallOrderPoint):
        blind_points(A, hash_to_curve(bytes(32)) + point)


def test_a_helper_answers_piece_by_piece_and_ends_with_its_input():
    digests, good = id_digests(["a", "b"], "job"), hash_to_curve(bytes(32))
    pieces = [(SECRET, A), (DIGESTS, digests), (POINTS, bytes(32)), (POINTS, good)]
    results = io.BytesIO()
    serve(io.BytesIO(b"".join(HEADER.pack(kind, len(c)) + c for kind, c in pieces) + b"P"), results)
    answers = [(RESULT, blind_digests(A, digests)), (REFUSED, b""), (RESULT, blind_points(A, good))]
    assert results.getvalue() == b"".join(HEADER.pack(kind, len(c)) + c for kind, c in answers)
