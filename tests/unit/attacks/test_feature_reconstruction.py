"""Narrow and blurred outputs give little away about the columns behind them; wide and exact ones everything."""

import numpy as np
import pytest

from vfl.attacks.feature_reconstruction import KnownWeights, posterior_mean, reconstruct_features, smooth_weights
from vfl.errors import ConfigError

pytest.importorskip("sklearn")
KNOWN, ATTACKED, WIDTH = 400, 600, 5
ROWS = KNOWN + ATTACKED


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(ROWS, WIDTH))
    own = np.stack([targets[:, 0] + rng.normal(size=ROWS), rng.normal(size=ROWS)], axis=1)
    return rng, own, targets


def attack(views, own, targets, weights=None):
    return reconstruct_features(views, own, targets, np.arange(KNOWN), np.arange(KNOWN, ROWS), weights=weights)


def test_wide_exact_outputs_give_every_column_away(table):
    rng, own, targets = table
    found = attack((targets @ rng.normal(size=(WIDTH, WIDTH)))[:, None], own, targets)
    assert found.attacked["ridge"] > 0.98
    assert found.advantage > 0.8


def test_pure_noise_gives_nothing_away(table):
    rng, own, targets = table
    found = attack(rng.normal(size=(ROWS, 2, 2)), own, targets)
    assert found.advantage < 0.03
    assert found.advantage_by_column.max() < 0.06


def test_one_column_that_is_disclosed_shows_in_its_own_score(table):
    _, own, targets = table
    found = attack(targets[:, None, 1:2], own, targets)
    assert found.advantage < 0.25
    assert found.advantage_by_column[1] > 0.9


def test_the_posterior_mean_weighs_views_by_their_weights(table):
    rng, own, targets = table
    weights = rng.normal(size=(ROWS, 3, WIDTH, 2))
    views = np.einsum("nd,nvdk->nvk", targets, weights) + rng.normal(0, 0.5, (ROWS, 3, 2))
    without = attack(views, own, targets)
    known = attack(views, own, targets, KnownWeights(targets, weights, 0.5))
    assert without.advantage < 0.1
    assert known.advantage > 0.6
    shared = KnownWeights(targets, weights[:1], 0.5)
    assert posterior_mean(views, own, targets, np.arange(KNOWN), shared).shape == (ROWS, WIDTH)


def test_the_smoother_follows_weights_through_training():
    rng = np.random.default_rng(5)
    true = np.cumsum(np.concatenate([rng.normal(size=(1, 4, 2)), 0.1 * rng.normal(size=(59, 4, 2))]), axis=0)
    steps = np.repeat(np.arange(60), 4)
    alpha = rng.uniform(-1, 1, (240, 4))
    views = np.einsum("md,mdk->mk", alpha, true[steps]) + rng.normal(0, 0.3, (240, 2))
    found = smooth_weights(views, alpha, steps, noise=0.3, drift=0.1, prior=1.0)
    assert found.shape == true.shape
    assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.95


def test_the_smoother_is_ridge_regression_for_a_single_step():
    rng = np.random.default_rng(6)
    alpha, views = rng.normal(size=(50, 3)), rng.normal(size=(50, 2))
    ridge = np.linalg.solve(alpha.T @ alpha + 0.25 * np.eye(3), alpha.T @ views)
    found = smooth_weights(views, alpha, np.zeros(50), noise=0.5, drift=0.1, prior=1.0)
    np.testing.assert_allclose(found[0], ridge)


def test_known_rows_are_not_scored_and_shapes_must_fit():
    with pytest.raises(ConfigError, match="among the attacked"):
        reconstruct_features(np.ones((4, 1, 1)), np.ones((4, 1)), np.ones((4, 1)), [0, 1], [1, 2])
    with pytest.raises(ConfigError, match="same rows"):
        reconstruct_features(np.ones((4, 1, 1)), np.ones((3, 1)), np.ones((4, 1)), [0], [1])
