"""Encodings: cells and outputs against naive loops, whitening, the budget, odd tables, and errors."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.logs import captured_logs, logged

from vfl.data.preprocess import Features
from vfl.errors import DataError, ModelError
from vfl.models.bottoms import build_bottom, probe_bottom
from vfl.models.config import BottomInputs, EncodingsBottom
from vfl.models.encodings import EncodingsNetwork, fit_encodings
from vfl.models.encodings.cells import hash_codes
from vfl.models.encodings.fitting import moments

PLAIN = EncodingsBottom(whiten=False)
GRID = 2.0**20


def features(numeric=(), categorical=(), rows=None):
    """Columns to features."""
    rows = rows if rows is not None else len((*numeric, *categorical)[0])
    numbers = torch.tensor(numeric, dtype=torch.float32).reshape(len(numeric), rows).T.contiguous()
    codes = torch.tensor(categorical, dtype=torch.int64).reshape(len(categorical), rows).T.contiguous()
    return Features(numbers, codes)


def mixed(rows=400, seed=0):
    """Two numeric columns, the second at times missing, its indicator, and two categorical columns."""
    generator = np.random.default_rng(seed)
    first, second = generator.normal(size=rows), generator.exponential(size=rows).round(1)
    missing = generator.random(rows) < 0.2
    few, many = generator.integers(0, 4, rows), generator.integers(0, 50, rows)
    columns = [first, np.where(missing, 0.0, second), missing]
    return BottomInputs(3, (4, 50), indicated=(1,)), features(np.array(columns).tolist(), [few.tolist(), many.tolist()])


def naive_edges(values, bins):
    ordered = sorted(values)
    ranks = [math.floor(k * (len(ordered) - 1) / bins + 0.5) for k in range(bins + 1)]
    return sorted({ordered[rank] for rank in ranks}) if ordered else []


def naive_cells(config, inputs, training, given):
    """Rows of cells, one value at a time. ``config`` has to fit into the budget."""
    own = inputs.numeric_width - len(inputs.indicated)
    indicator = {position: own + at for at, position in enumerate(inputs.indicated)}
    columns = [
        *(
            naive_bins(config, j, indicator.get(j), training.numeric.tolist(), given.numeric.tolist())
            for j in range(own)
        ),
        *(naive_missing(indicator[j], training.numeric.tolist(), given.numeric.tolist()) for j in inputs.indicated),
        *(
            naive_categories(config, training.categorical[:, j].tolist(), given.categorical[:, j].tolist())
            for j in range(len(inputs.cardinalities))
        ),
    ]
    return [[cell for column in columns for cell in column[row]] for row in range(len(given))]


def naive_bins(config, j, indicator, training, given):
    present = [row[j] for row in training if indicator is None or row[indicator] != 1]
    cells = [[] for _ in given]
    for low, high in pairwise(naive_edges(present, config.bins)):
        for at, row in enumerate(given):
            cell = round(min(max((row[j] - low) / (high - low), 0.0), 1.0) * GRID) / GRID
            cells[at].append(0.0 if indicator is not None and row[indicator] == 1 else cell)
    return cells


def naive_missing(indicator, training, given):
    varies = len({row[indicator] for row in training}) == 2
    return [[float(row[indicator] == 1)] if varies else [] for row in given]


def naive_categories(config, training, given):
    seen = set(training) - {0}
    hashed = len(seen) > config.one_hot or len(seen) == len(training) > 1

    def group(code):
        return 1 + int(hash_codes(np.array([code]))[0]) % config.buckets if hashed and code else code

    sizes = Counter(map(group, training))
    groups = [one for one in sorted(sizes) if sizes[one] < len(training)]
    return [[float(group(code) == one) for one in groups] for code in given]


def call(network, given):
    return network(given.numeric, given.categorical)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [PLAIN, EncodingsBottom(), EncodingsBottom(bins=3, one_hot=2, buckets=5, clip=1.5)])
def test_outputs_equal_naive_loops_to_the_last_bit(config, seed):
    inputs, training = mixed(seed=seed)
    _, given = mixed(rows=150, seed=seed + 100)
    given = Features(given.numeric * torch.tensor([3.0, 2.0, 1.0]), given.categorical)
    network = fit_encodings(config, inputs, training)
    cells = naive_cells(config, inputs, training, given)
    assert len(cells[0]) == network.cell_count
    if not config.whiten:
        expected = [[2 * cell - 1 for cell in row] for row in cells]
    else:
        weight, offset = network.weight.T.tolist(), network.offset.tolist()
        expected = [
            [
                min(max(sum(c * w for c, w in zip(row, weights, strict=True)) - shift, -1.0), 1.0)
                for weights, shift in zip(weight, offset, strict=True)
            ]
            for row in cells
        ]
    assert torch.equal(call(network, given), torch.tensor(expected, dtype=torch.float64).float())


def test_weights_are_the_whitening_in_the_eigenbasis():
    config = EncodingsBottom(ridge=0.01, clip=4.0)
    inputs, training = mixed()
    network = fit_encodings(config, inputs, training)
    cells = np.array(naive_cells(config, inputs, training, training))
    covariance = np.cov(cells.T, bias=True)
    values, vectors = np.linalg.eigh(covariance)
    unit = values.mean()
    kept = values > 1e-6 * unit
    assert network.width == kept.sum() < network.cell_count
    weight = network.weight.numpy() * 4.0
    # Whatever the basis: its squared weights are the inverse of the covariance with the ridge, on the kept components.
    inverse = vectors[:, kept] / (values[kept] + 0.01 * unit) @ vectors[:, kept].T
    np.testing.assert_allclose(weight @ weight.T, inverse, atol=1e-6 * np.abs(inverse).max())
    np.testing.assert_allclose(network.offset, cells.mean(axis=0) @ network.weight.numpy(), atol=1e-7)
    variances = np.diag(weight.T @ covariance @ weight)
    assert (np.diff(variances) < 1e-9).all(), "components in descending order"


@pytest.mark.parametrize("ridge", [0.0, 1e-3])
def test_whitened_training_rows_are_uncorrelated_with_variance_one(ridge):
    inputs, training = mixed(rows=3000)
    network = fit_encodings(EncodingsBottom(ridge=ridge, clip=100.0), inputs, training)
    alpha = call(network, training).double().numpy() * 100.0
    assert np.abs(alpha).max() < 100.0
    covariance = np.cov(alpha.T, bias=True)
    np.testing.assert_allclose(alpha.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0.0, atol=1e-4)
    if ridge:
        assert (np.diag(covariance) < 1).all()
        assert np.median(np.diag(covariance)) > 0.99
    else:
        np.testing.assert_allclose(np.diag(covariance), 1.0, atol=1e-4)


def test_clip_scales_and_clamps():
    inputs, training = mixed()
    wide, narrow = (call(fit_encodings(EncodingsBottom(clip=clip), inputs, training), training) for clip in (64.0, 1.0))
    torch.testing.assert_close(narrow, (wide * 64.0).clamp(-1, 1))
    assert narrow.abs().max() == 1.0


numbers = st.one_of(
    st.floats(-8, 8, width=32), st.sampled_from([0.0, -0.0, 1.0, 8.0, -8.0, 1e-45, 1e-38]), st.integers(-2, 2)
)


@st.composite
def odd_tables(draw):
    """Ties, constants, columns without values, any pattern of missing values, categories as many as rows."""
    rows = draw(st.integers(1, 25))
    values, missing, indicated = [], [], []
    for position in range(draw(st.integers(0, 3))):
        column = draw(st.one_of(st.lists(numbers, min_size=rows, max_size=rows), numbers.map(lambda x: [x] * rows)))
        if draw(st.booleans()):
            lacks = draw(st.one_of(st.lists(st.booleans(), min_size=rows, max_size=rows), st.just([True] * rows)))
            column = [0.0 if lack else value for lack, value in zip(lacks, column, strict=True)]
            missing.append([float(lack) for lack in lacks])
            indicated.append(position)
        values.append(column)
    codes, cardinalities = [], []
    for _ in range(draw(st.integers(0, 2))):
        size = draw(st.integers(1, 40))
        some = st.lists(st.integers(0, size - 1), min_size=rows, max_size=rows)
        codes.append(draw(st.one_of(some, st.just([1 + row for row in range(rows)]))))
        cardinalities.append(max(size, *codes[-1], 0) + 1)
    inputs = BottomInputs(len(values) + len(missing), tuple(cardinalities), tuple(indicated))
    return inputs, features(values + missing, codes, rows=rows)


configs = st.builds(
    EncodingsBottom,
    bins=st.integers(1, 9),
    one_hot=st.integers(1, 8),
    buckets=st.integers(2, 8),
    max_width=st.integers(1, 30),
    whiten=st.booleans(),
    ridge=st.sampled_from([0.0, 1e-3]),
)


@given(table=odd_tables(), config=configs, seed=st.integers(0, 99))
@settings(max_examples=300, deadline=None)
def test_any_table_is_encoded_within_the_budget_or_refused(table, config, seed):
    inputs, training = table
    try:
        bottom = build_bottom(config, inputs, width=0, seed=0, training=training)
    except DataError:
        assert not config.whiten or not any(len(set(column)) > 1 for column in training.numeric.T.tolist())
        return
    assert 1 <= bottom.width <= config.max_width
    assert not bottom.trainable
    probe_bottom(bottom, "bank")
    alpha = bottom(training.numeric, training.categorical)
    bottom.check_output(alpha, "bank", rows=len(training))
    # A row's output depends on nothing but the row.
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(training)))
    assert torch.equal(bottom(training.numeric[order], training.categorical[order]), alpha[order])
    alone = [bottom(training.numeric[at : at + 1], training.categorical[at : at + 1]) for at in range(len(training))]
    assert torch.equal(torch.cat(alone), alpha)
    mean, covariance = moments(bottom.module, training)
    assert ((mean > 0) & (mean < 1)).all(), "every cell varies"
    assert torch.equal(covariance, covariance.T)


@given(table=odd_tables(), bins=st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_cells_of_any_table_equal_naive_loops(table, bins):
    inputs, training = table
    config = EncodingsBottom(bins=bins, one_hot=5, buckets=3, whiten=False)
    cells = naive_cells(config, inputs, training, training)
    if not cells[0]:
        with pytest.raises(DataError, match="no feature column"):
            fit_encodings(config, inputs, training)
        return
    network = fit_encodings(config, inputs, training)
    assert torch.equal(call(network, training), 2 * torch.tensor(cells) - 1)


def test_a_column_of_two_values_has_one_cell_however_they_are_mixed():
    column = [0.0] * 50 + [1.0] * 50
    network = fit_encodings(PLAIN, BottomInputs(2), features([column, column[:1] + column[-1:] * 99]))
    assert network.cell_count == 2


def test_values_out_of_range_and_unknown_categories_at_prediction():
    training = features([[0.0, 1.0, 2.0, 3.0] * 5], [[1, 2, 3, 1] * 5])
    network = fit_encodings(EncodingsBottom(bins=1, whiten=False), BottomInputs(1, (4,)), training)
    alpha = call(network, features([[-1e9, 1.5, 1e9, math.inf]], [[0, 1, 7, -1]]))
    assert alpha.tolist() == [[-1, -1, -1, -1], [0, 1, -1, -1], [1, -1, -1, -1], [1, -1, -1, -1]]


def test_missing_is_its_own_cell_and_clears_the_others():
    inputs = BottomInputs(2, (3,), indicated=(0,))
    training = features([[0.0, 1.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1.0]], [[1, 2, 0, 1]])
    network = fit_encodings(EncodingsBottom(bins=2, whiten=False), inputs, training)
    #                                        two bins, missing, code 0 (missing), 1, 2
    assert call(network, training).tolist() == [
        [-1, -1, -1, -1, 1, -1],
        [1, -1, -1, -1, -1, 1],
        [1, 1, -1, 1, -1, -1],
        [-1, -1, 1, -1, 1, -1],
    ]


@pytest.mark.parametrize("whiten", [True, False])
def test_the_budget_takes_bins_first_and_then_buckets(whiten):
    generator = torch.Generator().manual_seed(0)
    numeric = torch.randn(2000, 80, generator=generator)
    codes = torch.randint(1, 101, (2000, 20), generator=generator)
    none = torch.empty(2000, 0, dtype=torch.int64)
    config = EncodingsBottom(whiten=whiten)
    with captured_logs() as events:
        fit_encodings(config, BottomInputs(80), Features(numeric, none))
        fit_encodings(config, BottomInputs(80, (101,) * 20), Features(numeric, codes))
    first, second = (event for event in events if "cells" in event)
    assert (first["cells"], first["bins"], first["buckets"]) == (480, 6, 32)
    assert (second["cells"], second["bins"], second["buckets"]) == (80 + 20 * 16, 1, 16)
    assert first["columns"] == 80


def test_with_more_columns_than_the_budget_the_leading_components_are_kept_or_the_table_is_refused():
    numeric = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    training = Features(numeric, torch.empty(500, 0, dtype=torch.int64))
    assert fit_encodings(EncodingsBottom(max_width=10), BottomInputs(40), training).width == 10
    with pytest.raises(DataError, match="too many columns") as caught:
        fit_encodings(EncodingsBottom(max_width=10, whiten=False), BottomInputs(40), training)
    assert "max_width" in caught.value.remedy
    assert "40 cells" in caught.value.detail


def test_the_log_names_columns_and_holds_no_values():
    inputs = BottomInputs(3, (21, 3), indicated=(1,), names=("age", "empty", "account", "sector"))
    lacking = [[0.0] * 20, [1.0] * 20]
    training = features([[i + 0.625 for i in range(20)], *lacking], [list(range(1, 21)), [1, 2] * 10])
    with captured_logs() as events:
        fit_encodings(EncodingsBottom(), inputs, training)
    constant, identifier, fitted = events
    assert (constant["log_level"], constant["columns"]) == ("warning", ["empty"])
    assert (identifier["log_level"], identifier["column"]) == ("warning", "account")
    assert "identifier" in identifier["event"]
    assert (fitted["columns"], fitted["hashed"], fitted["bins"]) == (4, 1, 8)
    assert fitted["width"] <= fitted["cells"]
    assert "625" not in logged(events)


def test_a_table_without_anything_that_varies_is_refused():
    inputs = BottomInputs(2, (2,), indicated=(0,))
    with pytest.raises(DataError, match="no feature column") as caught:
        build_bottom(PLAIN, inputs, 0, seed=0, training=features([[0.0] * 9, [1.0] * 9], [[1] * 9]))
    assert "columns" in caught.value.remedy


def test_other_features_than_the_columns_are_refused():
    with pytest.raises(ModelError, match="do not have the columns"):
        fit_encodings(PLAIN, BottomInputs(3), features([[0.0, 1.0]]))


def test_a_network_that_was_never_fitted_is_refused():
    bottom = build_bottom(EncodingsBottom(), BottomInputs(1), 5, seed=0)
    assert bottom.width == 0
    with pytest.raises(ModelError, match="before they are fitted"):
        bottom(torch.zeros(2, 1), torch.empty(2, 0, dtype=torch.int64))


def test_it_computes_in_float64_on_the_cpu_wherever_it_is_moved():
    inputs, training = mixed()
    network = fit_encodings(EncodingsBottom(), inputs, training)
    before = call(network, training)
    assert isinstance(network, EncodingsNetwork)
    assert network.half().to("meta").weight.dtype == torch.float64
    assert torch.equal(call(network, training), before)
