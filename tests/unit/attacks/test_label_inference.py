"""Gradients that depend on the label give it away; others do not."""

import numpy as np
import pytest

from vfl.attacks.label_inference import label_inference
from vfl.errors import ConfigError

ROWS, WIDTH = 1000, 8


def planted(rng):
    """Gradients of a logistic loss through one layer of weights."""
    labels = (rng.random(ROWS) < 0.25).astype(int)
    probability = np.clip(rng.normal(0.25, 0.08, ROWS), 0.01, 0.99)
    return (probability - labels)[:, None] * rng.normal(size=WIDTH), labels


def test_plain_gradients_give_labels_away():
    found = label_inference(*planted(np.random.default_rng(0)))
    assert min(found.norm, found.direction, found.spectral) > 0.95
    assert found.succeeds


def test_gradients_fall_into_clusters_and_known_labels_say_which_is_which():
    gradient, labels = planted(np.random.default_rng(5))
    found = label_inference(gradient, labels, known=np.arange(50))
    assert min(found.clusters, found.regression, found.neighbors) > 0.95
    assert label_inference(gradient, labels).regression == 0.5


def test_known_labels_find_what_scores_without_labels_do_not():
    rng = np.random.default_rng(6)
    labels = (rng.random(ROWS) < 0.5).astype(int)
    received = rng.normal(size=(ROWS, WIDTH)) * np.linspace(0.5, 2.0, WIDTH)
    received[:, 0] += labels
    found = label_inference(received, labels, known=np.arange(200))
    assert found.regression > 0.75
    assert found.regression > max(found.norm, found.direction, found.spectral, found.clusters) + 0.1
    assert found.succeeds


def test_known_labels_do_not_help_against_uniform_masks():
    rng = np.random.default_rng(7)
    _, labels = planted(rng)
    assert not label_inference(rng.uniform(-1, 1, (ROWS, WIDTH)), labels, known=np.arange(100)).succeeds


def test_uniform_masks_give_nothing_away():
    rng = np.random.default_rng(1)
    gradient, labels = planted(rng)
    found = label_inference(rng.uniform(-1, 1, gradient.shape), labels)
    assert not found.succeeds
    assert found.best < 0.56


def test_strong_noise_on_gradients_weakens_it():
    rng = np.random.default_rng(2)
    gradient, labels = planted(rng)
    assert label_inference(gradient + rng.normal(0, 20, gradient.shape), labels).best < 0.6


def test_the_band_is_wider_on_a_small_table():
    rng = np.random.default_rng(3)
    small = label_inference(rng.normal(size=(40, WIDTH)), np.arange(40) % 2)
    large = label_inference(rng.normal(size=(4000, WIDTH)), np.arange(4000) % 2)
    assert small.chance > large.chance > 0.5
    assert small.chance > 0.65


def test_one_class_and_other_shapes_are_refused():
    with pytest.raises(ConfigError, match="rows of both"):
        label_inference(np.ones((4, 2)), np.ones(4))
    with pytest.raises(ConfigError, match="rows of both"):
        label_inference(np.ones((4, 2)), np.array([0, 1, 0, 1]), known=[0])
    with pytest.raises(ConfigError, match="same rows"):
        label_inference(np.ones((4, 2)), np.array([0, 1]))
