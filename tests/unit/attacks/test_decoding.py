"""Narrow exact outputs give a table's rows away bit for bit to whoever knows some of them; noise leaves guesses."""

import numpy as np
import pytest

from vfl.attacks.decoding import ExactMatching, from_views, likelihoods, linked, most_probable, ranks, recover_weights
from vfl.errors import ConfigError

KNOWN, ATTACKED, COLUMNS, WIDTH, OUTPUTS, LEVELS = 150, 60, 4, 20, 2, 9
UNIT = 2**10


@pytest.fixture
def table():
    """Columns, the bottom, alpha in fixed point and weights of 35 bits."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, LEVELS, (KNOWN + ATTACKED, COLUMNS)) / LEVELS
    cells = rng.normal(size=(COLUMNS, LEVELS, WIDTH)) / 8

    def encode(rows):
        codes = np.rint(np.asarray(rows) * LEVELS).astype(int)
        return UNIT * np.clip(sum(cells[at, codes[:, at]] for at in range(COLUMNS)), -1, 1)

    weights = rng.integers(-(2**35), 2**35, (WIDTH, OUTPUTS))
    return rows, encode, np.rint(encode(rows)).astype(np.int64), weights


def _noisy(rng, product, share):
    return product + np.rint(rng.normal(0, share, product.shape) * product.std(axis=0)).astype(np.int64)


def test_known_rows_give_exact_weights_and_those_every_column_of_the_others(table):
    rows, encode, alpha, weights = table
    product = alpha @ weights
    found = recover_weights(product[:KNOWN], alpha[:KNOWN])
    np.testing.assert_array_equal(found, weights)
    matching = ExactMatching(encode, found, rows[:KNOWN])
    decoded = [matching.find(row) for row in product[KNOWN:]]
    hits = [row is not None and np.array_equal(row, true) for row, true in zip(decoded, rows[KNOWN:], strict=True)]
    assert np.mean(hits) > 0.9  # but for those whose activations were clamped


@pytest.mark.parametrize("share", [2.0**-14, 2.0**-8, 0.4])
def test_noise_far_below_the_scale_of_the_outputs_stops_it(table, share):
    rows, encode, alpha, weights = table
    product = _noisy(np.random.default_rng(1), alpha @ weights, share)
    assert recover_weights(product[:KNOWN], alpha[:KNOWN]) is None
    matching = ExactMatching(encode, weights, rows[:KNOWN])  # even with the true weights
    assert all(matching.find(row) is None for row in product[KNOWN:])


def test_likelihoods_find_the_row_behind_narrow_noise_and_not_behind_wide(table):
    rows, _, alpha, weights = table
    shares = []
    for share in (2.0**-8, 1.0):
        product = _noisy(np.random.default_rng(2), alpha @ weights, share) / (alpha @ weights).std()
        known, candidates = alpha[:KNOWN] / UNIT, alpha[KNOWN:] / UNIT
        log = likelihoods([from_views(product[KNOWN:], candidates, known, product[:KNOWN])])
        shares.append(linked(log, np.arange(ATTACKED), rows[KNOWN:]))
    assert shares[0] > 0.8
    assert shares[1] < 0.3


def test_evidence_adds_up_and_without_any_the_most_frequent_value_is_guessed(table):
    rows, _, alpha, _ = table
    rng = np.random.default_rng(3)
    known, candidates = alpha[:KNOWN] / UNIT, alpha[KNOWN:] / UNIT
    views = [alpha / UNIT @ rng.normal(size=(WIDTH, 2)) for _ in range(2)]
    views = [view + 0.3 * view.std() * rng.normal(size=view.shape) for view in views]
    evidence = [from_views(view[KNOWN:], candidates, known, view[:KNOWN]) for view in views]
    share = [linked(likelihoods(part), np.arange(ATTACKED), rows[KNOWN:]) for part in ([evidence[0]], evidence)]
    assert share[1] > share[0]
    np.testing.assert_array_equal(ranks(np.array([[0.1, 0.3, 0.2], [0.5, 0.1, 0.2]]), [0, 0]), [2, 0])
    guessed = most_probable(np.zeros((1, 5)), [[1, 7], [1, 8], [2, 8], [3, 8], [1, 9]])
    np.testing.assert_array_equal(guessed, [[1, 8]])


def test_a_single_column_is_matched_too():
    encode = lambda rows: UNIT * np.column_stack([rows[:, 0], 1 - rows[:, 0]])  # noqa: E731
    known = np.linspace(0, 1, 11)[:, None]
    weights = np.array([[3], [5 * 2**20]])
    matching = ExactMatching(encode, weights, known)
    product = np.rint(encode(known[4:5])).astype(np.int64) @ weights
    np.testing.assert_array_equal(matching.find(product[0]), known[4])
    assert matching.find(product[0] + 1) is None


def test_too_few_known_rows_are_refused():
    with pytest.raises(ConfigError, match="do not determine"):
        recover_weights(np.ones((3, 1)), np.ones((3, 3)))
