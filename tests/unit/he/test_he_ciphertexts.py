"""Ciphertexts decrypt to what was encrypted, cross the wire unchanged, and are checked when they come from a peer."""

import copy

import numpy as np
import pytest
import torch
from support.attacks.uniformity import looks_uniform
from support.layers.ciphertexts import encrypted, hidden, uniform_plaintexts

import vfl.he.ciphertexts
from vfl.errors import ProtocolError
from vfl.he.arithmetic.bits import pack_bits, packed_words
from vfl.he.arithmetic.residues import drop_primes
from vfl.he.ciphertexts import Cover, encrypt, from_wire, hide, make_cover, seeded_from_wire, to_wire, uniform_mask
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.noise import Hiding
from vfl.he.parameters import Parameters, RingSettings
from vfl.runtime.randomness import SEED_BYTES

PARAMETERS = Parameters.validated(RingSettings())
LEVEL, DEGREE = len(PARAMETERS.primes), PARAMETERS.degree
EVERYWHERE = np.arange(DEGREE)


@pytest.fixture(scope="module")
def key():
    return SecretKey(PARAMETERS)


@pytest.mark.parametrize("level", [3, 4, 5, 6, 7])
def test_decrypt_inverts_encrypt_at_every_level(key, level):
    plaintext = uniform_plaintexts(PARAMETERS, 3)
    ciphertexts = drop_primes(PARAMETERS, encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS), level)
    np.testing.assert_array_equal(key.decrypt(ciphertexts), plaintext % PARAMETERS.t)


def test_nothing_to_encrypt_or_decrypt_is_fine(key):
    empty = encrypted(PARAMETERS, key, np.zeros((0, DEGREE), dtype=np.int64))
    assert empty.first.shape == (0, LEVEL, DEGREE)
    assert empty.seeds.shape == (0, SEED_BYTES)
    assert key.decrypt(empty.expanded(PARAMETERS)).shape == (0, DEGREE)


def test_another_key_does_not_decrypt(key):
    plaintext = uniform_plaintexts(PARAMETERS, 1)
    other = SecretKey(PARAMETERS).decrypt(encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS))
    assert (other != plaintext % PARAMETERS.t).mean() > 0.99


def test_the_same_plaintext_is_never_encrypted_alike(key):
    plaintext = np.zeros((3, DEGREE), dtype=np.int64)
    made = [encrypted(PARAMETERS, key, plaintext) for _ in range(2)]
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
    returned, masks = hidden(PARAMETERS, key.public, product, Hiding(110, LEVEL))
    for kind in ("zeros", "noise"):
        assert sum(count for what, count, _ in drawn if what == kind) == 3
        assert len({value.numpy().tobytes() for what, _, value in drawn if what == kind}) == 3
    assert len({polynomial.numpy().tobytes() for polynomial in returned.flatten(0, 2)}) == 3 * 2 * LEVEL
    assert len({mask.tobytes() for mask in masks}) == 3


@pytest.mark.parametrize("positions", [EVERYWHERE, EVERYWHERE[::7]])
def test_a_mask_is_uniform_at_every_coefficient_that_is_sent(positions):
    masks = np.stack([uniform_mask(PARAMETERS, positions) for _ in range(20)])
    assert masks.shape == (20, positions.size)
    assert looks_uniform(masks, PARAMETERS.t)
    assert len({mask.tobytes() for mask in masks}) == 20


def test_a_cover_is_an_encryption_of_its_mask_of_full_size(key):
    cover = make_cover(PARAMETERS, key.public, 110, EVERYWHERE)
    assert cover.first.dtype == cover.second.dtype == torch.int32
    residues = torch.stack((cover.first, cover.second)).to(torch.int64)
    np.testing.assert_array_equal(key.decrypt(residues[None])[0], cover.mask % PARAMETERS.t)
    for index, prime in enumerate(PARAMETERS.primes):
        assert 0 <= int(residues[:, index].min()) <= int(residues[:, index].max()) < prime
        assert all(looks_uniform(residues[part, index].numpy(), prime) for part in (0, 1))


@pytest.mark.parametrize("level", [3, 7])
@pytest.mark.parametrize("negative", [False, True])
def test_hidden_products_are_the_product_and_the_mask_whatever_represents_them(key, level, negative):
    """Kernels leave representatives of either sign; what is sent are residues."""
    plaintext = uniform_plaintexts(PARAMETERS, 2)
    product = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    if negative:
        product -= torch.tensor(PARAMETERS.primes).unsqueeze(1)
    returned, masks = hidden(PARAMETERS, key.public, product, Hiding(30, level))
    primes = torch.tensor(PARAMETERS.primes[:level]).unsqueeze(1)
    assert bool(((returned >= 0) & (returned < primes)).all())
    np.testing.assert_array_equal(key.decrypt(returned), (plaintext + masks) % PARAMETERS.t)


@pytest.mark.parametrize("positions", [[], [0], [DEGREE - 1], [5, 77, 4096], list(range(DEGREE))])
def test_only_the_chosen_coefficients_of_the_first_polynomial_are_returned(key, positions):
    product = encrypted(PARAMETERS, key, uniform_plaintexts(PARAMETERS, 2)).expanded(PARAMETERS)
    covers = [make_cover(PARAMETERS, key.public, 110, EVERYWHERE) for _ in range(2)]
    where = np.array(positions, dtype=np.int64)
    parts = [Cover(cover.first[:, torch.from_numpy(where)], cover.second, cover.mask[where]) for cover in covers]
    whole = hide(PARAMETERS, product, covers, 3, EVERYWHERE)
    some = hide(PARAMETERS, product, parts, 3, where)
    assert some.first.shape == (2, 3, len(positions))
    assert torch.equal(some.first, whole.first[:, :, torch.from_numpy(where)])
    assert torch.equal(some.second, whole.second)


def test_hiding_changes_neither_the_product_nor_the_cover(key):
    product = encrypted(PARAMETERS, key, uniform_plaintexts(PARAMETERS, 2)).expanded(PARAMETERS)
    covers = [make_cover(PARAMETERS, key.public, 110, EVERYWHERE) for _ in range(2)]
    before = product.clone(), copy.deepcopy(covers)
    hide(PARAMETERS, product, covers, LEVEL, EVERYWHERE)
    assert torch.equal(product, before[0])
    for cover, unchanged in zip(covers, before[1], strict=True):
        assert torch.equal(cover.first, unchanged.first)
        assert torch.equal(cover.second, unchanged.second)
        np.testing.assert_array_equal(cover.mask, unchanged.mask)


def test_a_cover_for_some_coefficients_hides_as_one_for_all_does(key):
    plaintext, where = uniform_plaintexts(PARAMETERS, 1), np.arange(3, DEGREE, 5)
    product = encrypted(PARAMETERS, key, plaintext).expanded(PARAMETERS)
    cover = make_cover(PARAMETERS, key.public, 110, where)
    assert cover.first.shape == (LEVEL, where.size)
    returned = hide(PARAMETERS, product, [cover], 3, where)
    read = key.decrypt_at(returned.first, returned.second, where)[0, where]
    np.testing.assert_array_equal(read, (plaintext[0, where] + cover.mask) % PARAMETERS.t)


def test_encrypting_leaves_the_encryptions_of_zero_alone(key):
    zeros = key.encrypt_zeros(2)
    before = zeros.first.clone()
    encrypt(PARAMETERS, zeros, uniform_plaintexts(PARAMETERS, 2))
    assert torch.equal(zeros.first, before)


# --- the wire ---

BITS = PARAMETERS.settings.prime_bits
WORDS = packed_words(DEGREE, BITS)


def _packed(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, dtype=np.uint32)


def test_wire_form_keeps_every_residue(key):
    ciphertexts = encrypted(PARAMETERS, key, uniform_plaintexts(PARAMETERS, 2))
    full = ciphertexts.expanded(PARAMETERS)
    first = to_wire(PARAMETERS, ciphertexts.first)
    assert first.dtype == np.uint32
    assert first.nbytes == 2 * LEVEL * DEGREE * BITS // 8
    assert torch.equal(from_wire(PARAMETERS, first, (2, LEVEL, DEGREE), "bank", "a product"), ciphertexts.first)
    assert torch.equal(seeded_from_wire(PARAMETERS, first, ciphertexts.seeds, 2, "bank", "a product"), full)


@pytest.mark.parametrize("count", [1, 15, 16, 17, 300])
def test_wire_form_keeps_residues_at_some_positions(count):
    residues = torch.from_numpy(np.random.default_rng(count).integers(0, PARAMETERS.primes[0], (3, 2, count)))
    words = to_wire(PARAMETERS, residues)
    assert torch.equal(from_wire(PARAMETERS, words, (3, 2, count), "bank", "a product"), residues)


@pytest.mark.parametrize(
    "shape",
    [(1, LEVEL, WORDS), (3, LEVEL, WORDS), (2, 3, WORDS), (2, LEVEL + 1, WORDS), (2, LEVEL, WORDS - 1),
     (2, LEVEL, WORDS + 1), (2, LEVEL, DEGREE), (2, LEVEL, 0), (0, LEVEL, WORDS), (LEVEL, 2, WORDS)],
)  # fmt: skip
def test_wire_form_of_another_shape_is_refused(shape):
    with pytest.raises(ProtocolError, match="bank sent a product as ciphertexts of shape"):
        from_wire(PARAMETERS, _packed(shape), (2, LEVEL, DEGREE), "bank", "a product")
    seeds = np.zeros((2, SEED_BYTES), dtype=np.uint8)
    with pytest.raises(ProtocolError, match="bank sent activations as ciphertexts of shape"):
        seeded_from_wire(PARAMETERS, _packed(shape), seeds, 2, "bank", "activations")


@pytest.mark.parametrize("shape", [(1, 32), (3, 32), (2, 31), (2, 33), (2, 0), (0, 32)])
def test_other_numbers_and_lengths_of_seeds_are_refused(shape):
    words = _packed((2, LEVEL, WORDS))
    with pytest.raises(ProtocolError, match="bank sent seeds of shape"):
        seeded_from_wire(PARAMETERS, words, np.zeros(shape, dtype=np.uint8), 2, "bank", "activations")


@pytest.mark.parametrize("index", range(LEVEL))
def test_wire_form_with_residues_out_of_range_is_refused(index):
    seeds = np.zeros((1, SEED_BYTES), dtype=np.uint8)
    values = np.zeros((1, LEVEL, DEGREE), dtype=np.int64)
    for value in (PARAMETERS.primes[index], (1 << BITS) - 1):
        values[0, index, 77] = value
        words = pack_bits(values, BITS)
        with pytest.raises(ProtocolError, match="bank sent a product with residues outside") as caught:
            from_wire(PARAMETERS, words, (1, LEVEL, DEGREE), "bank", "a product")
        assert str(value) not in str(caught.value)
        with pytest.raises(ProtocolError, match="bank sent activations with residues outside"):
            seeded_from_wire(PARAMETERS, words, seeds, 1, "bank", "activations")
    values[0, index, 77] = PARAMETERS.primes[index] - 1
    from_wire(PARAMETERS, pack_bits(values, BITS), (1, LEVEL, DEGREE), "bank", "a product")
    seeded_from_wire(PARAMETERS, pack_bits(values, BITS), seeds, 1, "bank", "activations")
