"""Two parties agree on one secret that depends on both names and keys; unusable public keys are refused."""

import pytest

from vfl.errors import ProtocolError
from vfl.privacy.agreement import AgreementKey

SMALL_ORDER_POINTS = [
    bytes(32),
    bytes([1]) + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def _pair(left: str = "bank", right: str = "telco"):
    a, b = AgreementKey(), AgreementKey()
    return a.agree(b.public_bytes, left, right), b.agree(a.public_bytes, right, left)


def test_both_sides_derive_the_same_keys_and_streams():
    left, right = _pair()
    assert left.derive_key("ids") == right.derive_key("ids")
    assert left.stream("mask", 1000) == right.stream("mask", 1000)
    assert len(left.derive_key("ids")) == 32
    assert len(left.stream("mask", 1001)) == 1001


def test_labels_give_independent_values():
    secret, _ = _pair()
    outputs = [secret.derive_key(label) for label in ("a", "b", "", "a\x1f")]
    outputs += [secret.stream(label, 32) for label in ("a", "b")]
    assert len(set(outputs)) == len(outputs)


def test_names_bind_the_secret():
    """A key relayed between parties under another name does not give the same secret."""
    a, b = AgreementKey(), AgreementKey()
    honest = a.agree(b.public_bytes, "bank", "telco").derive_key("ids")
    assert honest != b.agree(a.public_bytes, "telco", "insurer").derive_key("ids")
    assert honest != b.agree(a.public_bytes, "bank", "telco").derive_key("ids")


def test_every_key_pair_is_fresh():
    assert AgreementKey().public_bytes != AgreementKey().public_bytes
    (left, _), (other, _) = _pair(), _pair()
    assert left.derive_key("ids") != other.derive_key("ids")


def test_a_third_party_derives_something_else():
    a, b, c = AgreementKey(), AgreementKey(), AgreementKey()
    honest = a.agree(b.public_bytes, "bank", "telco")
    assert c.agree(b.public_bytes, "bank", "telco").derive_key("x") != honest.derive_key("x")


@pytest.mark.parametrize("point", SMALL_ORDER_POINTS, ids=lambda p: p.hex()[:8])
def test_points_of_small_order_are_refused(point):
    with pytest.raises(ProtocolError, match="telco"):
        AgreementKey().agree(point, "bank", "telco")


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_keys_of_another_length_are_refused(length):
    with pytest.raises(ProtocolError, match="the key-agreement key of telco is malformed"):
        AgreementKey().agree(b"\x09" * length, "bank", "telco")
