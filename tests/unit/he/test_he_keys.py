"""Keys and ciphertexts of peers are checked; a secret key does not leave its object."""

import copy
import pickle
import struct

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.errors import ProtocolError
from vfl.he.ciphertexts import encrypt, from_wire, to_wire, uniform_mask
from vfl.he.parameters import Parameters, RingSettings
from vfl.he.residues import drop_primes
from vfl.he.seal import PublicKey, SecretKey

PARAMETERS = Parameters.validated(RingSettings())
LEVEL, DEGREE = len(PARAMETERS.primes), PARAMETERS.degree
HEADER, ARRAY_HEADER_AT, WORDS_AT = 16, 16 + 73, 16 + 73 + 24


@pytest.fixture(scope="module")
def key():
    return SecretKey(PARAMETERS)


@pytest.fixture(scope="module")
def stream(key):
    return key.public.to_bytes()


@pytest.mark.parametrize("level", [3, 4, 5, 6])
def test_decrypt_inverts_encrypt_at_every_level(key, level):
    plaintext = uniform_mask(PARAMETERS, 3)
    ciphertexts = drop_primes(PARAMETERS, encrypt(PARAMETERS, key, plaintext), level)
    np.testing.assert_array_equal(key.decrypt(ciphertexts), plaintext % PARAMETERS.t)


def test_nothing_to_encrypt_or_decrypt_is_fine(key):
    empty = encrypt(PARAMETERS, key, np.zeros((0, DEGREE), dtype=np.int64))
    assert empty.shape == (0, 2, LEVEL, DEGREE)
    assert key.decrypt(empty).shape == (0, DEGREE)
    assert key.public.encrypt_zeros(0).shape == (0, 2, LEVEL, DEGREE)


def test_a_received_public_key_encrypts_for_its_owner(key, stream):
    zeros = PublicKey.from_bytes(PARAMETERS, stream, "bank").encrypt_zeros(2)
    assert (key.decrypt(zeros) == 0).all()
    assert not torch.equal(zeros[0, 1], zeros[1, 1])


def test_another_key_does_not_decrypt(key):
    plaintext = uniform_mask(PARAMETERS, 1)
    other = SecretKey(PARAMETERS).decrypt(encrypt(PARAMETERS, key, plaintext))
    assert (other != plaintext % PARAMETERS.t).mean() > 0.99


def _refused(data: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        PublicKey.from_bytes(PARAMETERS, data, "bank")
    assert caught.value.summary == "the public encryption key of bank is malformed or made for other parameters"


@pytest.mark.parametrize("length", [0, 1, 15, 16, 17, 48, 88, 104, 105, 112, 113, 121, 5000, -8, -1])
def test_a_truncated_public_key_is_refused(stream, length):
    _refused(stream[:length])
    header = struct.pack("<HBBBBHQ", *struct.unpack_from("<HBBBBHQ", stream)[:6], len(stream[:length]))
    _refused((header + stream[HEADER:])[:length])


def test_a_public_key_with_more_bytes_than_needed_is_refused(stream):
    _refused(stream + b"\0")
    _refused(stream + stream)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_are_refused(data):
    _refused(data)


@settings(max_examples=30, deadline=None)
@given(position=st.integers(0, WORDS_AT - 1), value=st.integers(0, 255))
def test_a_changed_header_is_refused_or_harmless(stream, position, value):
    changed = bytearray(stream)
    changed[position] = value
    try:
        loaded = PublicKey.from_bytes(PARAMETERS, bytes(changed), "bank")
    except ProtocolError:
        return
    assert loaded.encrypt_zeros(1).shape == (1, 2, LEVEL, DEGREE)


def test_residues_outside_their_prime_are_refused(stream):
    for word in (PARAMETERS.primes[0], 2**63, 2**64 - 1):
        _refused(stream[:WORDS_AT] + struct.pack("<Q", word) + stream[WORDS_AT + 8 :])


def test_compressed_public_keys_are_refused(stream):
    """Their true size is known only after decompression. SEAL's streams nest, so the inner one counts as well."""
    packed = zstandard.ZstdCompressor().compress(stream[HEADER:])
    outer = struct.pack("<HBBBBHQ", 0xA15E, HEADER, *stream[3:5], 2, 0, HEADER + len(packed)) + packed
    _refused(outer)
    packed = zstandard.ZstdCompressor().compress(stream[WORDS_AT - 8 : WORDS_AT] + bytes(len(stream) - WORDS_AT))
    inner = struct.pack("<HBBBBHQ", 0xA15E, HEADER, *stream[3:5], 2, 0, HEADER + len(packed)) + packed
    body = stream[HEADER:ARRAY_HEADER_AT] + inner
    nested = struct.pack("<HBBBBHQ", 0xA15E, HEADER, *stream[3:5], 0, 0, HEADER + len(body)) + body
    _refused(nested)
    _refused(nested.ljust(len(stream), b"\0"))


@pytest.mark.parametrize("changes", [{"primes": 5}, {"tau": 56}, {"degree": 16384}])
def test_a_public_key_of_other_parameters_is_refused(changes):
    _refused(SecretKey(Parameters.validated(RingSettings(**changes))).public.to_bytes())


def test_a_secret_key_cannot_be_copied_or_serialised(key):
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be serialised"):
            copying(key)


def test_a_secret_key_shows_nothing(key):
    assert repr(key).startswith("<vfl.he.seal.SecretKey object")


def test_wire_form_keeps_every_residue(key):
    ciphertexts = encrypt(PARAMETERS, key, uniform_mask(PARAMETERS, 2))
    words = to_wire(ciphertexts)
    assert words.dtype == np.uint32
    assert torch.equal(from_wire(PARAMETERS, words, 2, LEVEL, "bank", "a product"), ciphertexts)


@pytest.mark.parametrize(
    "shape",
    [(1, 2, LEVEL, DEGREE), (3, 2, LEVEL, DEGREE), (2, 3, LEVEL, DEGREE), (2, 2, 3, DEGREE), (2, 2, LEVEL, 4096)],
)
def test_wire_form_of_another_shape_is_refused(shape):
    with pytest.raises(ProtocolError, match="bank sent a product as ciphertexts of shape"):
        from_wire(PARAMETERS, np.zeros(shape, dtype=np.uint32), 2, LEVEL, "bank", "a product")


@pytest.mark.parametrize("index", range(LEVEL))
def test_wire_form_with_residues_out_of_range_is_refused(index):
    words = np.zeros((1, 2, LEVEL, DEGREE), dtype=np.uint32)
    for value in (PARAMETERS.primes[index], 2**32 - 1):
        words[0, 1, index, 77] = value
        with pytest.raises(ProtocolError, match="bank sent a product with residues outside"):
            from_wire(PARAMETERS, words, 1, LEVEL, "bank", "a product")
    words[0, 1, index, 77] = PARAMETERS.primes[index] - 1
    from_wire(PARAMETERS, words, 1, LEVEL, "bank", "a product")
