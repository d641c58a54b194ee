"""Ciphertexts decrypt to what was encrypted, cross the wire unchanged, and are checked when they come from a peer."""

import numpy as np
import pytest
import torch

import vfl.he.ciphertexts
from vfl.errors import ProtocolError
from vfl.he.ciphertexts import encrypt, from_wire, hide, seeded_from_wire, to_wire, uniform_mask
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.noise import Hiding
from vfl.he.parameters import Parameters, RingSettings
from vfl.he.residues import drop_primes
from vfl.randomness import SEED_BYTES

PARAMETERS = Parameters.validated(RingSettings())
LEVEL, DEGREE = len(PARAMETERS.primes), PARAMETERS.degree


@pytest.fixture(scope="module")
def key():
    return SecretKey(PARAMETERS)


@pytest.mark.parametrize("level", [3, 4, 5, 6])
def test_decrypt_inverts_encrypt_at_every_level(key, level):
    plaintext = uniform_mask(PARAMETERS, 3)
    ciphertexts = drop_primes(PARAMETERS, encrypt(PARAMETERS, key, plaintext).expanded(PARAMETERS), level)
    np.testing.assert_array_equal(key.decrypt(ciphertexts), plaintext % PARAMETERS.t)


def test_nothing_to_encrypt_or_decrypt_is_fine(key):
    empty = encrypt(PARAMETERS, key, np.zeros((0, DEGREE), dtype=np.int64))
    assert empty.first.shape == (0, LEVEL, DEGREE)
    assert empty.seeds.shape == (0, SEED_BYTES)
    assert key.decrypt(empty.expanded(PARAMETERS)).shape == (0, DEGREE)


def test_another_key_does_not_decrypt(key):
    plaintext = uniform_mask(PARAMETERS, 1)
    other = SecretKey(PARAMETERS).decrypt(encrypt(PARAMETERS, key, plaintext).expanded(PARAMETERS))
    assert (other != plaintext % PARAMETERS.t).mean() > 0.99


def test_the_same_plaintext_is_never_encrypted_alike(key):
    plaintext = np.zeros((3, DEGREE), dtype=np.int64)
    made = [encrypt(PARAMETERS, key, plaintext) for _ in range(2)]
    polynomials = torch.cat([one.expanded(PARAMETERS) for one in made]).flatten(0, 2)
    assert len({polynomial.numpy().tobytes() for polynomial in polynomials}) == 6 * 2 * LEVEL


def test_every_ciphertext_is_hidden_by_an_encryption_of_zero_and_noise_of_its_own(monkeypatch, key):
    """Products that are all alike come back with nothing alike, and one encryption of zero serves one ciphertext."""
    drawn = []
    encrypt_zeros, flooding_noise = PublicKey.encrypt_zeros, vfl.he.ciphertexts.flooding_noise

    def zeros(self, count):
        drawn.append(("zeros", count, encrypt_zeros(self, count)))
        return drawn[-1][2]

    def flooding(parameters, shape, bits, level):
        drawn.append(("noise", 1, flooding_noise(parameters, shape, bits, level)))
        return drawn[-1][2]

    monkeypatch.setattr(PublicKey, "encrypt_zeros", zeros)
    monkeypatch.setattr(vfl.he.ciphertexts, "flooding_noise", flooding)
    product = torch.zeros((3, 2, LEVEL, DEGREE), dtype=torch.int64)
    mask = np.zeros((3, DEGREE), dtype=np.int64)
    hidden = hide(PARAMETERS, key.public, product, mask, Hiding(110, LEVEL))
    for kind in ("zeros", "noise"):
        assert sum(count for what, count, _ in drawn if what == kind) == 3
        assert len({value.numpy().tobytes() for what, _, value in drawn if what == kind}) == 3
    assert len({polynomial.numpy().tobytes() for polynomial in hidden.flatten(0, 2)}) == 3 * 2 * LEVEL


def test_hiding_changes_neither_the_product_nor_the_mask(key):
    product = encrypt(PARAMETERS, key, uniform_mask(PARAMETERS, 2)).expanded(PARAMETERS)
    mask = uniform_mask(PARAMETERS, 2)
    before = product.clone(), mask.copy()
    hide(PARAMETERS, key.public, product, mask, Hiding(110, LEVEL))
    assert torch.equal(product, before[0])
    np.testing.assert_array_equal(mask, before[1])


# --- the wire ---


def test_wire_form_keeps_every_residue(key):
    ciphertexts = encrypt(PARAMETERS, key, uniform_mask(PARAMETERS, 2))
    full = ciphertexts.expanded(PARAMETERS)
    words = to_wire(full)
    assert words.dtype == np.uint32
    assert torch.equal(from_wire(PARAMETERS, words, 2, LEVEL, "bank", "a product"), full)
    first = to_wire(ciphertexts.first)
    assert torch.equal(seeded_from_wire(PARAMETERS, first, ciphertexts.seeds, 2, "bank", "a product"), full)


@pytest.mark.parametrize(
    "shape",
    [(1, 2, LEVEL, DEGREE), (3, 2, LEVEL, DEGREE), (2, 3, LEVEL, DEGREE), (2, 2, 3, DEGREE), (2, 2, LEVEL, 4096)],
)
def test_wire_form_of_another_shape_is_refused(shape):
    with pytest.raises(ProtocolError, match="bank sent a product as ciphertexts of shape"):
        from_wire(PARAMETERS, np.zeros(shape, dtype=np.uint32), 2, LEVEL, "bank", "a product")
    first, seeds = np.zeros((shape[0], *shape[2:]), dtype=np.uint32), np.zeros((2, SEED_BYTES), dtype=np.uint8)
    if first.shape != (2, LEVEL, DEGREE):
        with pytest.raises(ProtocolError, match="bank sent activations as ciphertexts of shape"):
            seeded_from_wire(PARAMETERS, first, seeds, 2, "bank", "activations")


@pytest.mark.parametrize("shape", [(1, 32), (3, 32), (2, 31), (2, 33), (2, 0), (0, 32)])
def test_other_numbers_and_lengths_of_seeds_are_refused(shape):
    first = np.zeros((2, LEVEL, DEGREE), dtype=np.uint32)
    with pytest.raises(ProtocolError, match="bank sent seeds of shape"):
        seeded_from_wire(PARAMETERS, first, np.zeros(shape, dtype=np.uint8), 2, "bank", "activations")


@pytest.mark.parametrize("index", range(LEVEL))
def test_wire_form_with_residues_out_of_range_is_refused(index):
    words = np.zeros((1, 2, LEVEL, DEGREE), dtype=np.uint32)
    seeds = np.zeros((1, SEED_BYTES), dtype=np.uint8)
    for value in (PARAMETERS.primes[index], 2**32 - 1):
        words[0, 1, index, 77] = value
        with pytest.raises(ProtocolError, match="bank sent a product with residues outside"):
            from_wire(PARAMETERS, words, 1, LEVEL, "bank", "a product")
        with pytest.raises(ProtocolError, match="bank sent activations with residues outside"):
            seeded_from_wire(PARAMETERS, words[:, 1], seeds, 1, "bank", "activations")
    words[0, 1, index, 77] = PARAMETERS.primes[index] - 1
    from_wire(PARAMETERS, words, 1, LEVEL, "bank", "a product")
    seeded_from_wire(PARAMETERS, words[:, 1], seeds, 1, "bank", "activations")
