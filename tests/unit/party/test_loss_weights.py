"""How much each row counts in the loss."""

import numpy as np
import pytest

from vfl.interact.fixed_point import MAX_GRADIENT
from vfl.party.learning.loss_weights import LossWeights

LABELS = np.array([0] * 99 + [1])


def test_without_weights_all_rows_count_the_same():
    weights = LossWeights.fit(LABELS, None, balanced=False, classes=2)
    assert weights.of(LABELS, None) is None
    assert weights.divisor(1.0) == 1.0


def test_balanced_classes_have_the_same_total_weight():
    weights = LossWeights.fit(LABELS, None, balanced=True, classes=2).of(LABELS, None)
    assert weights[LABELS == 0].sum() == pytest.approx(weights[LABELS == 1].sum())
    assert weights.mean() == pytest.approx(1.0)


def test_classes_that_do_not_occur_take_no_weight():
    weights = LossWeights.fit(np.array([0, 0, 2]), None, balanced=True, classes=3)
    assert weights.of(np.array([0, 0, 2]), None).tolist() == pytest.approx([0.75, 0.75, 1.5])


def test_weights_of_rows_and_classes_are_multiplied():
    column = np.array([1.0] * 50 + [3.0] * 50)
    weights = LossWeights.fit(LABELS, column, balanced=True, classes=2)
    counted = weights.of(LABELS, column)
    assert counted.mean() == pytest.approx(1.0)
    assert counted[60] / counted[10] == pytest.approx(3.0)


@pytest.mark.parametrize("bound", [1.0, 2.0**0.5, 4.0])
@pytest.mark.parametrize("balanced", [True, False])
def test_what_leaves_keeps_within_the_bounds_of_unweighted_gradients(bound, balanced):
    """Passive parties bound a step by the mean square of the gradients, and fixed point each of them."""
    column = np.exp(np.random.default_rng(0).normal(size=100))
    weights = LossWeights.fit(LABELS, column, balanced=balanced, classes=2)
    gradients = bound * weights.of(LABELS, column) / weights.divisor(bound)
    assert np.sqrt(np.mean(gradients**2)) <= bound * (1 + 1e-12)
    assert gradients.max() <= MAX_GRADIENT * (1 + 1e-12)
