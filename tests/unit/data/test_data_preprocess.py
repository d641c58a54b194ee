import json

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.errors import DataError
from vfl.models.config import BottomInputs

nan = float("nan")


def make_table(numeric=None, categorical=None, n=None):
    numeric, categorical = numeric or {}, categorical or {}
    n = n or len(next(iter([*numeric.values(), *categorical.values()])))
    numbers = np.empty((n, len(numeric)))
    for position, values in enumerate(numeric.values()):
        numbers[:, position] = values
    texts = np.empty((n, len(categorical)), dtype=object)
    for position, values in enumerate(categorical.values()):
        texts[:, position] = values
    ids = pl.Series([str(row) for row in range(n)], dtype=pl.String)
    return Table(
        ids,
        ids,
        numbers,
        tuple(numeric),
        texts,
        tuple(categorical),
        None,
    )


def rows_of(*rows):
    return np.array(rows, dtype=np.int64)


def fit_transform(table, *training):
    rows = rows_of(*training) if training else np.arange(len(table))
    return Preprocessor.fit(table, rows).transform(table)


finite = st.floats(-1e150, 1e150)
any_number = st.one_of(finite, st.just(nan))
columns = st.integers(1, 12).flatmap(
    lambda n: st.tuples(
        st.lists(st.lists(any_number, min_size=n, max_size=n), max_size=3),
        st.lists(st.lists(st.one_of(st.none(), st.text(max_size=4)), min_size=n, max_size=n), max_size=3),
        st.just(n),
    )
)


@st.composite
def tables(draw):
    numeric, categorical, n = draw(columns)
    return make_table({f"x{i}": c for i, c in enumerate(numeric)}, {f"c{i}": c for i, c in enumerate(categorical)}, n)


@given(table=tables(), training=st.integers(1, 12))
@settings(max_examples=200)
def test_any_table_gives_bounded_inputs_and_the_stored_form_is_exact(table, training):
    rows = np.arange(min(training, len(table)))
    preprocessor = Preprocessor.fit(table, rows)
    features = preprocessor.transform(table)
    assert features.numeric.dtype == torch.float32
    assert features.numeric.shape == (len(table), preprocessor.numeric_width)
    assert torch.isfinite(features.numeric).all()
    assert (features.numeric.abs() <= 8).all()
    assert features.categorical.dtype == torch.int64
    assert (features.categorical >= 0).all()
    assert (features.categorical < torch.tensor(preprocessor.cardinalities, dtype=torch.int64)).all()

    restored = Preprocessor.from_json(preprocessor.to_json())
    assert restored == preprocessor
    assert restored.to_json() == preprocessor.to_json()
    assert torch.equal(restored.transform(table).numeric, features.numeric)
    assert torch.equal(restored.transform(table).categorical, features.categorical)


def test_training_rows_are_standardized():
    features = fit_transform(make_table({"a": [1.0, 3.0, 5.0, 7.0]}))
    expected = (np.array([1, 3, 5, 7]) - 4) / np.std([1, 3, 5, 7])
    np.testing.assert_allclose(features.numeric[:, 0], expected, rtol=1e-6)


def test_nothing_is_learnt_from_other_rows():
    table = make_table({"a": [0.0, 2.0, 1000.0, nan]}, {"c": ["u", "v", "new", None]})
    preprocessor = Preprocessor.fit(table, rows_of(0, 1))
    scale = preprocessor.numeric[0]
    assert (scale.mean, scale.std, scale.has_missing) == (1.0, 1.0, False)
    assert preprocessor.categorical[0].categories == ("u", "v")
    features = preprocessor.transform(table)
    assert features.numeric[:, 0].tolist() == [-1.0, 1.0, 8.0, 0.0]
    assert features.categorical[:, 0].tolist() == [1, 2, 0, 0]


def test_missing_values_become_the_mean_and_an_indicator_is_appended():
    table = make_table({"a": [1.0, nan, 3.0], "b": [0.0, 2.0, 4.0]})
    preprocessor = Preprocessor.fit(table, rows_of(0, 1, 2))
    assert preprocessor.numeric_width == 3
    numeric = preprocessor.transform(table).numeric
    assert numeric[:, 0].tolist() == [-1.0, 0.0, 1.0]
    assert numeric[:, 2].tolist() == [0.0, 1.0, 0.0]


def test_a_bottom_is_told_which_column_an_indicator_belongs_to():
    table = make_table({"a": [1.0, 2.0, 3.0], "b": [0.0, nan, 4.0], "d": [nan, nan, nan]}, {"c": ["u", None, "v"]})
    preprocessor = Preprocessor.fit(table, rows_of(0, 1, 2))
    assert preprocessor.inputs == BottomInputs(5, (3,), indicated=(1, 2), names=("a", "b", "d", "c"))
    assert "'a'" not in repr(preprocessor.inputs)


def test_column_without_any_training_value_is_zero():
    table = make_table({"a": [nan, nan, 2.0]})
    features = fit_transform(table, 0, 1)
    assert features.numeric.tolist() == [[0.0, 1.0], [0.0, 1.0], [2.0, 0.0]]


def test_constant_column_is_zero_even_where_its_mean_is_rounded():
    assert np.std([0.1] * 7) > 0  # the rounding that is meant
    table = make_table({"a": [0.1] * 7 + [0.6]})
    features = fit_transform(table, *range(7))
    assert features.numeric[:7, 0].tolist() == [0.0] * 7
    assert features.numeric[7, 0].item() == pytest.approx(0.5)


def test_outliers_are_cut_off_on_both_sides():
    table = make_table({"a": [-1.0, 1.0, 1e308, -1e308]})
    assert fit_transform(table, 0, 1).numeric[2:, 0].tolist() == [8.0, -8.0]


def test_values_too_large_to_average_are_refused():
    with pytest.raises(DataError, match="too large") as caught:
        fit_transform(make_table({"income": [1e308, -1e308, 1.7e308]}))
    assert "'income'" in caught.value.detail


def test_table_without_features_gives_width_zero():
    table = make_table(n=4)
    features = fit_transform(table)
    assert features.numeric.shape == (4, 0)
    assert features.categorical.shape == (4, 0)
    assert len(features) == 4


def test_features_are_selected_in_the_order_given():
    features = fit_transform(make_table({"a": [0.0, 2.0]}, {"c": ["u", "v"]})).select(rows_of(1, 0, 1))
    assert len(features) == 3
    assert features.numeric[:, 0].tolist() == [1.0, -1.0, 1.0]
    assert features.categorical[:, 0].tolist() == [2, 1, 2]


def test_no_training_rows_is_an_error():
    with pytest.raises(DataError, match="no training rows"):
        Preprocessor.fit(make_table({"a": [1.0]}), rows_of())


@pytest.mark.parametrize(
    "other",
    [
        make_table({"a": [1.0]}),
        make_table({"b": [1.0], "a": [1.0]}),
        make_table({"a": [1.0], "b": [1.0]}, {"c": ["u"]}),
    ],
)
def test_other_columns_than_those_of_the_fit_are_refused(other):
    preprocessor = Preprocessor.fit(make_table({"a": [1.0, 2.0], "b": [1.0, 2.0]}), rows_of(0, 1))
    with pytest.raises(DataError, match="feature columns differ from those"):
        preprocessor.transform(other)


def test_reprs_hold_no_values():
    table = make_table({"a": [123.5, 7.0]}, {"c": ["secret", "u"]})
    preprocessor = Preprocessor.fit(table, rows_of(0, 1))
    for text in (repr(table), repr(preprocessor), str(preprocessor), repr(preprocessor.transform(table))):
        assert "secret" not in text
        assert "123.5" not in text
        assert "65.25" not in text
    assert "secret" not in repr(preprocessor.categorical[0])


def stored(**changes):
    scale = {"name": "a", "mean": 0.0, "std": 1.0, "has_missing": False} | changes.pop("scale", {})
    vocabulary = {"name": "c", "categories": ["secret", "u"]} | changes.pop("vocabulary", {})
    return json.dumps({"version": 2, "readings": [], "numeric": [scale], "categorical": [vocabulary]} | changes)


def test_well_formed_text_is_read():
    assert Preprocessor.from_json(stored()).cardinalities == (3,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        stored()[:-3],
        stored(version=1),
        stored(extra=1),
        stored(scale={"std": 0.0}),
        stored(scale={"std": -1.0}),
        stored(scale={"mean": "0"}),
        stored(scale={"mean": nan}),
        stored(scale={"std": float("inf")}),
        stored(scale={"unknown": 1}),
        stored(vocabulary={"categories": ["u", "secret"]}),
        stored(vocabulary={"categories": ["secret", "secret"]}),
        stored(vocabulary={"categories": [1]}),
    ],
)
def test_malformed_text_is_refused_without_showing_categories(text):
    with pytest.raises(DataError, match="stored preprocessing") as caught:
        Preprocessor.from_json(text)
    assert "secret" not in str(caught.value)
