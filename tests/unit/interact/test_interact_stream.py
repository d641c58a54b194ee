"""Ciphertexts travel in parts that are numbered through, and what is made in advance changes no result."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.layers.exchanges import Transcript
from support.layers.interaction import PARAMETERS, Layer, encrypted_layer, make_shape, plaintext_layer

import vfl.interact.stream
from vfl.he.keys import PublicKey, SecretKey
from vfl.he.layout import BackwardLayout, plan_product, product_layout
from vfl.he.packing import RowPacking
from vfl.he.pool import Pool, Pools
from vfl.interact.layer import InteractionShape
from vfl.interact.stream import Parts, slabs
from vfl.messages import (
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    FreshCiphertexts,
    HiddenCiphertexts,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
)

N = PARAMETERS.degree
LARGE = 1 << 32


def _part_ciphertexts(patch: pytest.MonkeyPatch, count: int) -> None:
    patch.setattr(vfl.interact.stream, "PART_CIPHERTEXTS", count)


# --- where a sequence is cut ---


@given(count=st.integers(0, 100), first=st.integers(0, 50), size=st.integers(1, 9))
def test_parts_cover_everything_once_in_order_and_are_no_larger_than_allowed(count, first, size):
    with pytest.MonkeyPatch.context() as patch:
        _part_ciphertexts(patch, size)
        parts = Parts(count, first)
        numbered = list(parts)
        assert [number for number, _ in numbered] == list(range(first, parts.end))
    covered = [at for _, part in numbered for at in range(part.start, part.stop)]
    assert covered == list(range(count))
    assert all(0 < part.stop - part.start <= size for _, part in numbered)
    assert all(part.stop - part.start == size for _, part in numbered[:-1])


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 40_000),
    width=st.integers(1, 64),
    out_width=st.integers(1, 64),
    size=st.integers(1, 20),
)
def test_slabs_are_numbered_through_without_gaps(rows, width, out_width, size):
    with pytest.MonkeyPatch.context() as patch:
        _part_ciphertexts(patch, size)
        layout = plan_product(rows, width, out_width, N)
        runs = list(slabs(layout))
        numbers = [number for run in runs for number, _ in run.parts]
        assert numbers == list(range(len(numbers)))
        assert sum(run.parts.count for run in runs) == layout.product.ciphertexts
    assert [run.source.start for run in runs] == [0, *(run.source.stop for run in runs[:-1])]
    assert runs[-1].source.stop == layout.source.ciphertexts
    assert [run.rows.start for run in runs] == [0, *(run.rows.stop for run in runs[:-1])]
    assert runs[-1].rows.stop == rows


# --- a step in many parts ---


def _short_rows(patch: pytest.MonkeyPatch, per_in: int, per_out: int, per_blocks: int | None) -> None:
    """Blocks of 256 rows, so that few rows make many ciphertexts.

    ``per_in`` columns of alpha share a ciphertext, ``per_out`` of dL/dZ, and ``per_blocks`` where that is encrypted
    for the weight gradient apart.
    """

    def forward(self, name, rows, columns, parameters):
        source = RowPacking(rows, self.widths[name], N, 256, per_in, 256)
        return product_layout(source, columns)

    def backward(self, rows, columns, parameters):
        by_rows, by_blocks = (RowPacking(rows, columns, N, 256, per, 256) for per in (per_out, per_blocks or per_out))
        return BackwardLayout(by_rows if self.gradient_receivers else None, by_blocks)

    patch.setattr(InteractionShape, "forward_layout", forward)
    patch.setattr(InteractionShape, "backward_layout", backward)


def _two_steps(layer: Layer, rows: int, seed: int, transcripts: list[Transcript] | None = None) -> list[np.ndarray]:
    """Results of two steps: Z, d alpha and the weights."""
    rng, shape, results = np.random.default_rng(seed), layer.shape, []
    layer.setup()
    for step in range(2):
        alpha = {name: rng.integers(-1024, 1025, (rows, width)) for name, width in shape.widths.items()}
        d_z = rng.integers(-4096, 4097, (rows, shape.out_width))
        transcript = transcripts[step] if transcripts else None
        results.append(layer.forward(step, alpha, transcript))
        d_alpha = layer.backward(step, d_z, 7, transcript)
        results += [d_alpha[name] for name in shape.passive if name in shape.gradient_receivers]
        results += layer.shares().values()
    return results


def _assert_same(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def _check_numbers(shape: InteractionShape, transcript: Transcript, size: int) -> dict[type, int]:
    """Messages of each kind between two parties have the numbers 0 to n - 1 in order; n by kind."""
    counts: dict[type, int] = {}
    pairs = {(sender, receiver) for sender, receiver, _ in transcript.sent}
    for sender, receiver in pairs:
        for kind in {type(message) for _, _, message in transcript.sent}:
            numbered = transcript.numbered(kind, sender, receiver)
            assert [number for number, _ in numbered] == list(range(len(numbered)))
            counts[kind] = max(counts.get(kind, 0), len(numbered))
    for _, _, message in transcript.sent:
        if isinstance(message, FreshCiphertexts | HiddenCiphertexts):
            assert 1 <= message.ct_first_CLW.shape[0] <= size
    return counts


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@example(rows=1100, widths=[5, 1], out_width=3, pers=(1, 1, None), size=8, frozen="none", seed=0)
@given(
    rows=st.sampled_from([40, 256, 257, 700]),  # more of them, as in the example, take many seconds
    widths=st.lists(st.integers(1, 5), min_size=1, max_size=2),
    out_width=st.integers(1, 5),
    pers=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.sampled_from([None, 1, 2])),
    size=st.sampled_from([1, 2, 3, 8]),
    frozen=st.sampled_from(["none", "first", "all"]),
    seed=st.integers(0, 2**32),
)
def test_steps_in_several_slabs_and_parts_agree_with_plaintext_ones(rows, widths, out_width, pers, size, frozen, seed):
    named = {f"p{at}": width for at, width in enumerate(widths)}
    without = {"none": [], "first": ["p0"], "all": list(named)}[frozen]
    shape = make_shape(named, out_width, frozenset(without))
    transcripts = [Transcript(), Transcript()]
    with pytest.MonkeyPatch.context() as patch:
        _short_rows(patch, *pers)
        _part_ciphertexts(patch, size)
        got = _two_steps(encrypted_layer(shape, 1), rows, seed, transcripts)
    _assert_same(got, _two_steps(plaintext_layer(shape, 1), rows, seed))
    for transcript in transcripts:
        _check_numbers(shape, transcript, size)


@pytest.mark.parametrize("per_blocks", [None, 2], ids=["shared", "apart"])
def test_every_kind_comes_in_several_numbered_parts(monkeypatch, per_blocks):
    _short_rows(monkeypatch, 1, 1, per_blocks)
    _part_ciphertexts(monkeypatch, 2)
    shape, transcripts = make_shape({"bank": 40, "telco": 3}, 3), [Transcript(), Transcript()]
    got = _two_steps(encrypted_layer(shape), 700, 5, transcripts)
    _assert_same(got, _two_steps(plaintext_layer(shape), 700, 5))
    kinds = {EncryptedActivations, MaskedActivationProduct, EncryptedGradientRows, MaskedGradientProduct}
    kinds |= {MaskedWeightGradient} | ({EncryptedGradientBlocks} if per_blocks else set())
    for transcript in transcripts:
        counts = _check_numbers(shape, transcript, 2)
        assert {kind for kind in counts if issubclass(kind, FreshCiphertexts | HiddenCiphertexts)} == kinds
        assert all(counts[kind] > 1 for kind in kinds)


@pytest.mark.parametrize(("width", "out_width"), [(3, 10), (9, 3)])
def test_more_rows_than_a_ciphertext_holds_with_parts_as_they_are(width, out_width):
    shape = make_shape({"telco": width}, out_width)
    rng, rows = np.random.default_rng(0), 8200
    encrypted, plaintext = encrypted_layer(shape), plaintext_layer(shape)
    encrypted.setup()
    plaintext.setup()
    alpha, d_z = {"telco": rng.integers(-1024, 1025, (rows, width))}, rng.integers(-4096, 4097, (rows, out_width))
    np.testing.assert_array_equal(encrypted.forward(0, alpha), plaintext.forward(0, alpha))
    got, expected = encrypted.backward(0, d_z, 5), plaintext.backward(0, d_z, 5)
    np.testing.assert_array_equal(got["telco"], expected["telco"])
    np.testing.assert_array_equal(encrypted.shares()["telco"], plaintext.shares()["telco"])


def test_parties_with_other_widths_than_each_other_cut_the_gradient_in_their_own_places(monkeypatch):
    """It is encrypted and sent once for all; the slabs that a party multiplies depend on its width."""
    _short_rows(monkeypatch, 2, 1, None)
    _part_ciphertexts(monkeypatch, 2)
    shape, rows = make_shape({"wide": 33, "narrow": 1, "odd": 5}, 1), 700
    gradient = shape.backward_layout(rows, 1, PARAMETERS).rows
    cuts = {name: [run.rows for run in slabs(product_layout(gradient, shape.widths[name]))] for name in shape.passive}
    assert cuts["wide"] != cuts["narrow"] == cuts["odd"]
    got = _two_steps(encrypted_layer(shape), rows, 5)
    _assert_same(got, _two_steps(plaintext_layer(shape), rows, 5))


# --- what is made in advance ---


def _pools_of(made: dict[str, Pools], budget: int):
    def make(name: str) -> Pools:
        made[name] = Pools(budget)
        return made[name]

    return make


def _fill(made: dict[str, Pools]) -> int:
    return sum(1 for pools in made.values() for _ in iter(pools.fill_one, False))


SHAPE = make_shape({"bank": 5, "telco": 2}, 3)


@pytest.mark.parametrize("budget", [0, 1 << 20, LARGE], ids=["empty", "partly filled", "full"])
def test_results_do_not_depend_on_how_full_pools_are(monkeypatch, budget):
    made: dict[str, Pools] = {}
    layer = encrypted_layer(SHAPE, 1, _pools_of(made, budget))
    forward, filled = layer.forward, []

    def fill_then_forward(*arguments):
        filled.append(_fill(made))
        return forward(*arguments)

    monkeypatch.setattr(layer, "forward", fill_then_forward)
    _assert_same(_two_steps(layer, 300, 3), _two_steps(plaintext_layer(SHAPE, 1), 300, 3))
    assert filled[0] == 0  # nothing is expected before the first step
    assert (filled[1] > 0) == (budget > 0)


def test_pools_learn_in_one_step_all_that_the_next_one_needs():
    """Nothing is made on the spot any more: the idle time between two steps can do it all."""
    made: dict[str, Pools] = {}
    layer = encrypted_layer(SHAPE, 1, _pools_of(made, LARGE))
    _two_steps(layer, 300, 3)
    _fill(made)
    with pytest.MonkeyPatch.context() as patch:
        for kind, make in ((SecretKey, "encrypt_zeros"), (PublicKey, "encrypt_zeros")):
            patch.setattr(kind, make, lambda self, count: pytest.fail("made on the spot"))
        alpha = {name: np.ones((300, width), dtype=np.int64) for name, width in SHAPE.widths.items()}
        layer.forward(2, alpha)
        layer.backward(2, np.ones((300, 3), dtype=np.int64), 1)


@pytest.mark.parametrize("budget", [0, LARGE], ids=["empty", "full"])
def test_every_zero_and_cover_is_used_once_over_all_steps(monkeypatch, budget):
    taken, take = [], Pool.take

    def remember(self, count):
        items = take(self, count)
        taken.extend(items)
        return items

    monkeypatch.setattr(Pool, "take", remember)
    made: dict[str, Pools] = {}
    layer = encrypted_layer(SHAPE, 1, _pools_of(made, budget))
    layer.setup()
    for step in range(3):
        _fill(made)
        alpha = {name: np.ones((300, width), dtype=np.int64) for name, width in SHAPE.widths.items()}
        layer.forward(step, alpha)
        _fill(made)
        layer.backward(step, np.ones((300, 3), dtype=np.int64), 1)
    contents = [
        item.mask.tobytes() + item.second.numpy().tobytes() if hasattr(item, "mask") else item.seeds.tobytes()
        for item in taken
    ]
    assert len(contents) > 3 * 8
    assert len(set(contents)) == len(contents)


def test_a_pool_reports_how_much_memory_its_items_take():
    made: dict[str, Pools] = {}
    layer = encrypted_layer(SHAPE, 1, _pools_of(made, LARGE))
    _two_steps(layer, 300, 3)
    _fill(made)
    for pools in made.values():
        actual = 0
        for pool in pools._pools:
            for item in pool._items:
                tensors = (item.first, item.second, item.mask) if hasattr(item, "mask") else (item.first, item.seeds)
                actual += sum(tensor.nbytes for tensor in tensors)
        assert 0.99 * actual < pools.stored_bytes < 1.01 * actual


def test_a_layer_of_another_speed_of_connection_still_agrees():
    """All parties derive layouts from the shape, which carries it."""
    slow = replace(SHAPE, link_mbit=10)
    _assert_same(_two_steps(encrypted_layer(slow), 300, 3), _two_steps(plaintext_layer(slow), 300, 3))
