"""A peer's message of another kind, shape, count or range ends the exchange with an error that names the peer."""

from itertools import count

import numpy as np
import pytest
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape, numbered, plaintext_layer

from vfl.errors import ProtocolError
from vfl.he.arithmetic.bits import packed_words
from vfl.he.layout import BackwardLayout, product_layout, reduction_layout
from vfl.he.packing import RowPacking
from vfl.ids import StepKey
from vfl.interact.layer import InteractionShape
from vfl.messages import (
    ClearActivationGradient,
    ClearActivations,
    ClearWeights,
    EncryptedActivations,
    EncryptedGradientBlocks,
    EncryptedGradientRows,
    ForwardShare,
    GradientCommitment,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProduct,
    MaskedWeightGradient,
    Message,
    WeightShareOffer,
)
from vfl.messages.exchange import Send
from vfl.runtime.randomness import SEED_BYTES

ROWS, WIDTH, OUT_WIDTH = 5, 3, 2
_STEPS = count()
N, L, RETURNED, BITS = PARAMETERS.degree, len(PARAMETERS.primes), 3, PARAMETERS.settings.prime_bits
WORDS = packed_words(N, BITS)
SHAPE = make_shape({"bank": WIDTH}, OUT_WIDTH)
FORWARD = SHAPE.forward_layout("bank", ROWS, OUT_WIDTH, PARAMETERS).product
SOURCE = RowPacking(ROWS, OUT_WIDTH, N, 32, OUT_WIDTH, 32)
GRADIENT, WEIGHT = product_layout(SOURCE, WIDTH).product, reduction_layout(SOURCE, WIDTH).product
ALPHA = np.ones((ROWS, WIDTH), dtype=np.int64)
D_Z = np.ones((ROWS, OUT_WIDTH), dtype=np.int64)
LABELS = numbered(ROWS)
COLUMNS = slice(0, OUT_WIDTH)
COMMITTED = GradientCommitment(np.zeros(32, dtype=np.uint8))


@pytest.fixture(scope="module")
def layer():
    return encrypted_layer(SHAPE)


@pytest.fixture(autouse=True)
def packing(monkeypatch):
    """One encryption of the gradient serves both products, packed as ``SOURCE``."""
    _pack_backward(monkeypatch, BackwardLayout(SOURCE, SOURCE))


@pytest.fixture
def apart(packing, monkeypatch):
    """Each product has an encryption of the gradient of its own."""
    _pack_backward(monkeypatch, BackwardLayout(SOURCE, RowPacking(ROWS, OUT_WIDTH, N, 64, OUT_WIDTH, 64)))


def _pack_backward(monkeypatch, layout: BackwardLayout) -> None:
    monkeypatch.setattr(InteractionShape, "backward_layout", lambda self, rows, columns, parameters: layout)


def _key() -> StepKey:
    """A step of its own for every exchange, as masks are handed out once."""
    return StepKey("job", next(_STEPS), 0)


def _words(count: int = 1, level: int = L, words: int = WORDS, value: int = 0) -> np.ndarray:
    """Packed polynomials; all bits set is more than any prime."""
    return np.full((count, level, words), value, dtype=np.uint32)


def _first(packing, level: int = RETURNED, **changes) -> np.ndarray:
    """c0 of returned products."""
    return _words(packing.ciphertexts, level, packed_words(len(packing.positions), BITS), **changes)


def _second(packing) -> np.ndarray:
    return _words(packing.ciphertexts, RETURNED)


def _seeds(count: int = 1, length: int = SEED_BYTES) -> np.ndarray:
    return np.zeros((count, length), dtype=np.uint8)


def _ring(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.int64)


def _backward(active):
    return active.backward(_key(), D_Z, dict.fromkeys(SHAPE.passive, LABELS), COLUMNS)


def _answer(exchange, *messages: Message) -> None:
    """Drive an exchange: sends go nowhere, each receive gets the next message."""
    queue, request = list(messages), next(exchange)
    while True:
        request = exchange.send(None if isinstance(request, Send) else queue.pop(0))


def _refused(exchange, sender: str, *messages: Message) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        _answer(exchange, *messages)
    assert sender in caught.value.summary
    return caught.value


BAD_FRESH = [
    _words(2), _words(0), _words(level=L - 1), _words(words=WORDS - 1), _words(words=N), _words(value=2**32 - 1)
]  # fmt: skip
BAD_SEEDS = [_seeds(0), _seeds(2), _seeds(length=31), _seeds(length=33), _seeds(length=0)]
BAD_SECOND = [
    _words(2, RETURNED), _words(0, RETURNED), _words(1, L), _words(1, RETURNED, WORDS - 1), _words(1, RETURNED, N),
    _words(1, RETURNED, value=2**32 - 1),
]  # fmt: skip


def _bad_firsts(packing) -> list[np.ndarray]:
    """The last two: c0 sent whole, and residues beyond their prime."""
    count = packed_words(len(packing.positions), BITS)
    shapes = [(2, RETURNED, count), (0, RETURNED, count), (1, L, count), (1, RETURNED, count + 1), (1, RETURNED, 0)]
    wrong = [_words(*shape) for shape in [*shapes, (1, RETURNED, WORDS)]]
    return [*wrong, _first(packing, value=2**32 - 1)]


def _bad_products(kind, packing) -> list[Message]:
    return [
        *(kind(first, _second(packing)) for first in _bad_firsts(packing)),
        *(kind(_first(packing), second) for second in BAD_SECOND),
    ]


def _words_id(words: np.ndarray) -> str:
    return f"{words.shape}-{words.flat[0] if words.size else ''}"


@pytest.mark.parametrize("words", BAD_FRESH, ids=_words_id)
def test_active_refuses_malformed_activations(layer, words):
    _refused(layer.active.forward(_key(), ROWS, COLUMNS), "bank", EncryptedActivations(words, _seeds()))


@pytest.mark.parametrize("shape", [(ROWS + 1, OUT_WIDTH), (ROWS, OUT_WIDTH + 1), (OUT_WIDTH, ROWS), (0, 0)])
def test_active_refuses_malformed_forward_shares(layer, shape):
    messages = EncryptedActivations(_words(), _seeds()), ForwardShare(_ring(*shape))
    _refused(layer.active.forward(_key(), ROWS, COLUMNS), "bank", *messages)


@pytest.mark.parametrize("at", range(13))
def test_both_refuse_malformed_products(layer, at):
    passive = layer.passive["bank"]
    bad = _bad_products(MaskedActivationProduct, FORWARD)
    assert len(bad) == 13
    error = _refused(passive.forward(_key(), ALPHA, LABELS, COLUMNS), "active", bad[at])
    assert "'masked_activation_product'" in error.summary
    bad_rows, bad_weights = _bad_products(MaskedGradientProduct, GRADIENT), _bad_products(MaskedWeightGradient, WEIGHT)
    error = _refused(_backward(layer.active), "bank", bad_rows[at])
    assert "'masked_gradient_product'" in error.summary
    good = MaskedGradientProduct(_first(GRADIENT), _second(GRADIENT))
    before = layer.active.shares()["bank"].copy()
    error = _refused(_backward(layer.active), "bank", good, bad_weights[at])
    assert "'masked_weight_gradient'" in error.summary
    np.testing.assert_array_equal(layer.active.shares()["bank"], before)


@pytest.mark.parametrize("words", BAD_FRESH, ids=_words_id)
def test_passive_refuses_malformed_gradients(layer, words):
    passive = layer.passive["bank"]
    _forward_done(passive)
    before = passive.shares()["bank"].copy()
    error = _refused(
        passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, EncryptedGradientRows(words, _seeds())
    )
    assert "'encrypted_gradient_rows'" in error.summary
    np.testing.assert_array_equal(passive.shares()["bank"], before)


@pytest.mark.parametrize("words", BAD_FRESH, ids=_words_id)
def test_passive_refuses_malformed_gradients_packed_for_the_other_product(layer, apart, words):
    passive = layer.passive["bank"]
    _forward_done(passive)
    rows, blocks = EncryptedGradientRows(_words(), _seeds()), EncryptedGradientBlocks(words, _seeds())
    error = _refused(passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, rows, blocks)
    assert "'encrypted_gradient_blocks'" in error.summary


@pytest.mark.parametrize("seeds", BAD_SEEDS, ids=lambda s: str(s.shape))
def test_both_refuse_malformed_seeds(layer, apart, seeds):
    _refused(layer.active.forward(_key(), ROWS, COLUMNS), "bank", EncryptedActivations(_words(), seeds))
    passive = layer.passive["bank"]
    _forward_done(passive)
    _refused(passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, EncryptedGradientRows(_words(), seeds))
    _forward_done(passive)
    rows, blocks = EncryptedGradientRows(_words(), _seeds()), EncryptedGradientBlocks(_words(), seeds)
    assert (
        "seeds of shape"
        in _refused(passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, rows, blocks).summary
    )


def _forward_done(passive) -> None:
    with pytest.raises(StopIteration):
        _answer(
            passive.forward(_key(), ALPHA, LABELS, COLUMNS), MaskedActivationProduct(_first(FORWARD), _second(FORWARD))
        )


@pytest.mark.parametrize("shape", [(ROWS + 1, WIDTH), (ROWS, WIDTH + 1), (WIDTH, ROWS), (0, 0)])
def test_passive_refuses_malformed_activation_gradients(layer, shape):
    passive = layer.passive["bank"]
    _forward_done(passive)
    messages = EncryptedGradientRows(_words(), _seeds()), MaskedActivationGradient(_ring(*shape))
    _refused(passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, *messages)


@pytest.mark.parametrize("shape", [(WIDTH + 1, OUT_WIDTH), (OUT_WIDTH, WIDTH), (0, 0)])
def test_active_refuses_malformed_weight_offers(layer, shape):
    _refused(layer.active.setup(), "bank", WeightShareOffer(_ring(*shape)))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_passive_refuses_malformed_commitments(layer, length):
    passive = layer.passive["bank"]
    _forward_done(passive)
    before = passive.state()
    with pytest.raises(ProtocolError, match="32 bytes"):
        _answer(passive.backward(_key(), ALPHA, COLUMNS), GradientCommitment(np.zeros(length, dtype=np.uint8)))
    for name, value in passive.state().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_message_of_another_kind_is_refused(layer):
    passive = layer.passive["bank"]
    wrong = ClearWeights(_ring(1, 1))
    for exchange, sender in (
        (layer.active.setup(), "bank"),
        (layer.active.forward(_key(), ROWS, COLUMNS), "bank"),
        (_backward(layer.active), "bank"),
        (passive.forward(_key(), ALPHA, LABELS, COLUMNS), "active"),
    ):
        assert "sent another message" in _refused(exchange, sender, wrong).summary


def test_plaintext_refuses_other_shapes():
    layer = plaintext_layer(SHAPE)
    _refused(layer.active.setup(), "bank", ClearWeights(_ring(WIDTH, OUT_WIDTH + 1)))
    _refused(
        layer.active.forward(_key(), ROWS, COLUMNS),
        "bank",
        ClearActivations(_ring(ROWS + 1, WIDTH), _ring(ROWS, OUT_WIDTH)),
    )
    noise = _ring(ROWS, OUT_WIDTH + 1)
    _refused(layer.active.forward(_key(), ROWS, COLUMNS), "bank", ClearActivations(_ring(ROWS, WIDTH), noise))
    passive = layer.passive["bank"]
    with pytest.raises(StopIteration):
        _answer(passive.forward(_key(), ALPHA, LABELS, COLUMNS))
    wrong = ClearActivationGradient(_ring(ROWS, WIDTH + 1))
    _refused(passive.backward(_key(), ALPHA, COLUMNS), "active", COMMITTED, wrong)
