"""Initial weights: the passive party's, held as shares, with only uniform values sent."""

from dataclasses import replace

import numpy as np
import pytest
from support.attacks.uniformity import looks_uniform
from support.layers.exchanges import Transcript, run_exchanges
from support.layers.interaction import PARAMETERS, encrypted_layer, make_shape, numbered, plaintext_layer

from vfl.interact import encrypted_passive
from vfl.interact.fixed_point import center
from vfl.messages import WeightShareOffer

WIDTHS = {"bank": 40, "telco": 30}
SHAPE = make_shape(WIDTHS, 32)
T = PARAMETERS.t


@pytest.fixture
def layer_and_transcript():
    layer, transcript = encrypted_layer(SHAPE, seed=4), Transcript()
    layer.setup(transcript)
    return layer, transcript


def test_shares_add_up_to_the_weights_that_the_passive_party_chose(layer_and_transcript):
    layer, _ = layer_and_transcript
    plaintext = plaintext_layer(SHAPE, seed=4)
    plaintext.setup()
    for name, weights in plaintext.shares().items():
        np.testing.assert_array_equal(layer.shares()[name], weights)
        scale = weights.std() * 2.0**-PARAMETERS.settings.weight_bits
        assert scale == pytest.approx(SHAPE.weight_scale, rel=0.1)


def test_offers_are_uniform_and_the_only_messages(layer_and_transcript):
    _, transcript = layer_and_transcript
    assert len(transcript.sent) == len(WIDTHS)
    for _, _, message in transcript.sent:
        assert isinstance(message, WeightShareOffer)
        assert looks_uniform(message.share_DK, T)
    offers = {message.share_DK.tobytes() for _, _, message in transcript.sent}
    assert len(offers) == len(transcript.sent)


def test_shares_are_uniform_and_in_range(layer_and_transcript):
    layer, _ = layer_and_transcript
    held = [*layer.active.shares().values(), *(s.shares()[n] for n, s in layer.passive.items())]
    for share in held:
        assert looks_uniform(share, T)
        assert share.min() >= -T // 2
        assert share.max() < T // 2


def test_what_the_active_party_receives_does_not_depend_on_the_weights(monkeypatch):
    """With the same masks, other weights change only the passive party's own share."""

    def run(seed: int):
        draws = np.random.default_rng(77)
        shape = make_shape({"bank": 6}, 5)

        def uniform(size, tau):
            return draws.integers(-(1 << (tau - 1)), 1 << (tau - 1), size)

        monkeypatch.setattr(encrypted_passive, "uniform_ring", uniform)
        layer, transcript = encrypted_layer(shape, seed), Transcript()
        layer.setup(transcript)
        seen = [m.share_DK for m in transcript.received_by("active")]
        assert not list(transcript.received_by("bank"))
        return layer.active.shares()["bank"], layer.passive["bank"].shares()["bank"], seen

    (v1, u1, seen1), (v2, u2, seen2) = run(1), run(2)
    np.testing.assert_array_equal(v1, v2)
    np.testing.assert_array_equal(seen1, seen2)
    assert (u1 != u2).all()


def test_updates_keep_shares_uniform_and_the_weights_right():
    shape = make_shape({"bank": 24}, 24)
    layer, plaintext = encrypted_layer(shape), plaintext_layer(shape)
    rng = np.random.default_rng(2)
    for side in (layer, plaintext):
        side.setup()
    for step in range(2):
        alpha, d_z = rng.integers(-1024, 1025, (16, 24)), rng.integers(-4096, 4097, (16, 24))
        for side in (layer, plaintext):
            side.forward(step, {"bank": alpha})
            side.backward(step, d_z, 1 << 20)
    share_v, share_u = layer.active.shares()["bank"], layer.passive["bank"].shares()["bank"]
    assert looks_uniform(share_v, T)
    assert looks_uniform(share_u, T)
    np.testing.assert_array_equal(center(share_v + share_u, PARAMETERS.tau), plaintext.shares()["bank"])


@pytest.mark.parametrize("make", [encrypted_layer, plaintext_layer])
def test_other_initial_weights_never_share_a_release_label(make):
    """Equal noise on outputs of two sets of weights cancels; the active party has a say in their scale."""
    alpha = np.ones((5, WIDTHS["bank"]), dtype=np.int64)

    def labels(own_width):
        layer = make(replace(SHAPE, own_width=own_width), seed=4, sigma=0.3)
        layer.setup()
        return layer.passive["bank"]._releases.labels("active", numbered(5), alpha, slice(0, 32))

    assert labels(4) == labels(4)
    assert not set(labels(4)) & set(labels(5))


def test_setup_ends_for_every_party():
    layer = encrypted_layer(make_shape({"bank": 2}, 2))
    results = run_exchanges({"active": layer.active.setup(), "bank": layer.passive["bank"].setup()})
    assert results == {"active": None, "bank": None}
