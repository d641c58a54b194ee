"""A peer's message of another kind, shape, count or range ends the exchange with an error that names the peer."""

from itertools import count

import numpy as np
import pytest
from support.interaction import PARAMETERS, encrypted_layer, make_shape, oracle_layer

from vfl.errors import ProtocolError
from vfl.ids import StepKey
from vfl.interact.exchange import Receive, Send
from vfl.messages import (
    ClearActivationGradient,
    ClearActivations,
    ClearWeights,
    EncryptedActivations,
    EncryptedGradient,
    ForwardShare,
    MaskedActivationGradient,
    MaskedActivationProduct,
    MaskedGradientProducts,
    Message,
    WeightShareOffer,
)
from vfl.randomness import SEED_BYTES

ROWS, WIDTH, OUT_WIDTH = 5, 3, 2
_STEPS = count()
N, L, RETURNED = PARAMETERS.degree, len(PARAMETERS.primes), 3
ALPHA = np.ones((ROWS, WIDTH), dtype=np.int64)
D_Z = np.ones((ROWS, OUT_WIDTH), dtype=np.int64)


@pytest.fixture(scope="module")
def layer():
    return encrypted_layer(make_shape({"bank": WIDTH}, OUT_WIDTH))


def _key() -> StepKey:
    """A step of its own for every exchange, as masks are handed out once."""
    return StepKey("job", next(_STEPS), 0)


def _ct(count: int = 1, level: int = L, polynomials: int = 2, degree: int = N, value: int = 0) -> np.ndarray:
    return np.full((count, polynomials, level, degree), value, dtype=np.uint32)


def _fresh(count: int = 1, level: int = L, degree: int = N, value: int = 0) -> np.ndarray:
    """First polynomials of fresh ciphertexts."""
    return np.full((count, level, degree), value, dtype=np.uint32)


def _seeds(count: int = 1, length: int = SEED_BYTES) -> np.ndarray:
    return np.zeros((count, length), dtype=np.uint8)


def _ring(*shape: int) -> np.ndarray:
    return np.zeros(shape, dtype=np.int64)


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


BAD_FRESH = [_fresh(2), _fresh(0), _fresh(level=L - 1), _fresh(degree=N // 2), _fresh(value=2**32 - 1)]
BAD_SEEDS = [_seeds(0), _seeds(2), _seeds(length=31), _seeds(length=33), _seeds(length=0)]
NOTHING = (_fresh(0), _seeds(0))
BAD_RETURNED = [_ct(2, RETURNED), _ct(0, RETURNED), _ct(level=L), _ct(1, RETURNED, 1), _ct(1, RETURNED, value=2**30)]


@pytest.mark.parametrize("words", BAD_FRESH, ids=lambda w: f"{w.shape}-{w.flat[0] if w.size else ''}")
def test_active_refuses_malformed_activations(layer, words):
    _refused(layer.active.forward(_key(), ROWS), "bank", EncryptedActivations(words, _seeds()))


@pytest.mark.parametrize("shape", [(ROWS + 1, OUT_WIDTH), (ROWS, OUT_WIDTH + 1), (OUT_WIDTH, ROWS), (0, 0)])
def test_active_refuses_malformed_forward_shares(layer, shape):
    messages = EncryptedActivations(_fresh(), _seeds()), ForwardShare(_ring(*shape))
    _refused(layer.active.forward(_key(), ROWS), "bank", *messages)


@pytest.mark.parametrize("words", BAD_RETURNED, ids=lambda w: f"{w.shape}-{w.flat[0] if w.size else ''}")
def test_both_refuse_malformed_products(layer, words):
    passive = layer.passive["bank"]
    _refused(passive.forward(_key(), ALPHA), "active", MaskedActivationProduct(words))
    good = _ct(1, RETURNED)
    for products in (MaskedGradientProducts(words, good), MaskedGradientProducts(good, words)):
        _refused(layer.active.backward(_key(), D_Z, 1), "bank", products)


@pytest.mark.parametrize("words", BAD_FRESH, ids=lambda w: f"{w.shape}-{w.flat[0] if w.size else ''}")
def test_passive_refuses_malformed_gradients(layer, words):
    passive = layer.passive["bank"]
    _forward_done(passive)
    _refused(passive.backward(_key(), 1), "active", EncryptedGradient(words, _seeds(), *NOTHING))
    _forward_done(passive)
    blocks = words if words.shape[0] else _fresh()
    _refused(passive.backward(_key(), 1), "active", EncryptedGradient(_fresh(), _seeds(), blocks, _seeds(0)))


@pytest.mark.parametrize("seeds", BAD_SEEDS, ids=lambda s: str(s.shape))
def test_both_refuse_malformed_seeds(layer, seeds):
    _refused(layer.active.forward(_key(), ROWS), "bank", EncryptedActivations(_fresh(), seeds))
    passive = layer.passive["bank"]
    _forward_done(passive)
    _refused(passive.backward(_key(), 1), "active", EncryptedGradient(_fresh(), seeds, *NOTHING))
    _forward_done(passive)
    blocks = seeds if seeds.shape[0] else _seeds(1)
    refusal = _refused(passive.backward(_key(), 1), "active", EncryptedGradient(_fresh(), _seeds(), _fresh(0), blocks))
    assert "seeds of shape" in refusal.summary


def _forward_done(passive) -> None:
    with pytest.raises(StopIteration):
        _answer(passive.forward(_key(), ALPHA), MaskedActivationProduct(_ct(1, RETURNED)))


@pytest.mark.parametrize("shape", [(ROWS + 1, WIDTH), (ROWS, WIDTH + 1), (WIDTH, ROWS), (0, 0)])
def test_passive_refuses_malformed_activation_gradients(layer, shape):
    passive = layer.passive["bank"]
    _forward_done(passive)
    messages = EncryptedGradient(_fresh(), _seeds(), *NOTHING), MaskedActivationGradient(_ring(*shape))
    _refused(passive.backward(_key(), 1), "active", *messages)


@pytest.mark.parametrize("shape", [(WIDTH + 1, OUT_WIDTH), (OUT_WIDTH, WIDTH), (0, 0)])
def test_both_refuse_malformed_weight_offers(layer, shape):
    _refused(layer.active.setup(), "bank", WeightShareOffer(_ring(*shape)))
    _refused(layer.passive["bank"].setup(), "active", WeightShareOffer(_ring(*shape)))


def test_a_message_of_another_kind_is_refused(layer):
    passive = layer.passive["bank"]
    wrong = ClearWeights(_ring(1, 1))
    for exchange, sender in (
        (layer.active.setup(), "bank"),
        (layer.active.forward(_key(), ROWS), "bank"),
        (layer.active.backward(_key(), D_Z, 1), "bank"),
        (passive.setup(), "active"),
        (passive.forward(_key(), ALPHA), "active"),
    ):
        assert "sent another message" in _refused(exchange, sender, wrong).summary


def test_a_backward_pass_needs_its_forward_pass():
    passive = encrypted_layer(make_shape({"bank": WIDTH}, OUT_WIDTH)).passive["bank"]
    with pytest.raises(ProtocolError, match="step 4"):
        next(passive.backward(StepKey("job", 4, 0), 1))
    active = oracle_layer(make_shape({"bank": WIDTH}, OUT_WIDTH)).active
    with pytest.raises(ProtocolError, match="step 4"):
        next(active.backward(StepKey("job", 4, 0), D_Z, 1))


def test_one_forward_pass_serves_one_backward_pass(layer):
    passive = layer.passive["bank"]
    _forward_done(passive)
    exchange = passive.backward(_key(), 1)
    assert isinstance(next(exchange), Receive)
    with pytest.raises(ProtocolError):
        next(passive.backward(_key(), 1))


def test_oracle_refuses_other_shapes():
    layer = oracle_layer(make_shape({"bank": WIDTH}, OUT_WIDTH))
    _refused(layer.active.setup(), "bank", ClearWeights(_ring(WIDTH, OUT_WIDTH + 1)))
    _refused(layer.active.forward(_key(), ROWS), "bank", ClearActivations(_ring(ROWS + 1, WIDTH)))
    passive = layer.passive["bank"]
    with pytest.raises(StopIteration):
        _answer(passive.forward(_key(), ALPHA))
    _refused(passive.backward(_key(), 1), "active", ClearActivationGradient(_ring(ROWS, WIDTH + 1)))
