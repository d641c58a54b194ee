"""Estimators: scikit-learn's conventions as far as they apply."""

import numpy as np
import polars as pl
import pytest
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

import vfl
from vfl.errors import ConfigError, DataError

SMALL = {"model": {"top": {"hidden": [8]}}, "widths": 4}
QUICK = {"local_epochs": 12, "batch_size": 64, "optimizer": {"learning_rate": 0.05}}


def test_a_classifier_fits_and_predicts_in_the_order_of_the_active_party(frames):
    model = vfl.VerticalClassifier(label="default", training=QUICK, seed=1, **SMALL)
    assert model.fit(frames) is model
    assert model.classes_.tolist() == [0, 1]
    proba = model.predict_proba(frames)
    assert proba.shape == (240, 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1.0)
    assert model.score(frames) == (model.predict(frames) == frames["bank"]["default"].to_numpy()).mean()
    assert model.score(frames) > 0.8
    unlabeled = {"bank": frames["bank"].drop("default"), "telco": frames["telco"]}
    np.testing.assert_array_equal(model.predict_proba(unlabeled), proba)
    shuffled = {**frames, "bank": frames["bank"].reverse()}
    np.testing.assert_allclose(model.predict_proba(shuffled), proba[::-1], atol=1e-6)


def test_a_regressor_and_three_classes(frames):
    values = frames["bank"].with_columns(pl.col("income").alias("limit") * 3 + 10)
    tables = {"bank": values.drop("default"), "telco": frames["telco"]}
    regressor = vfl.VerticalRegressor(label="limit", training=QUICK, **SMALL).fit(tables)
    assert regressor.predict(tables).shape == (240,)
    assert regressor.score(tables) > 0.5
    classes = values.with_columns((pl.col("limit").rank() / 81).floor().cast(pl.Int64).alias("limit"))
    tables = {"bank": classes, "telco": frames["telco"]}
    classifier = vfl.VerticalClassifier(label="limit", training={"passes": 1}, **SMALL).fit(tables)
    assert classifier.predict_proba(tables).shape == (240, 3)
    assert set(classifier.predict(tables)) <= {0, 1, 2}


def test_the_latest_rows_are_held_out_and_later_tables_need_no_time(frames):
    dated = frames["bank"].with_columns(opened=pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 8, 27), eager=True))
    split = {"by": "time", "test": 0.25}
    model = vfl.VerticalClassifier(label="default", time="opened", split=split, training={"local_epochs": 2}, **SMALL)
    model.fit({**frames, "bank": dated})
    assert model.run_.result.train_rows == 180
    np.testing.assert_array_equal(model.predict(frames), model.predict({**frames, "bank": dated}))
    assert model.score({**frames, "bank": dated}) == model.score(frames)


def test_parameters_follow_scikit_learn():
    model = vfl.VerticalClassifier(seed=5, training={"passes": 2})
    assert model.get_params()["seed"] == 5
    copied = clone(model)
    assert copied is not model
    assert copied.get_params() == model.get_params()
    assert model.set_params(seed=6).seed == 6
    with pytest.raises(ValueError, match="no parameter 'epochs'"):
        model.set_params(epochs=3)
    for parameters in ParameterGrid({"seed": [1, 2]}):
        assert clone(model).set_params(**parameters).seed == parameters["seed"]
    assert repr(vfl.VerticalRegressor(seed=2)) == "VerticalRegressor(seed=2)"
    assert vfl.VerticalClassifier._estimator_type == "classifier"


def test_what_cannot_be_fitted_or_predicted_says_why(frames):
    model = vfl.VerticalClassifier(label="default", training={"passes": 1}, **SMALL)
    with pytest.raises(ConfigError, match="not fitted yet"):
        model.predict(frames)
    with pytest.raises(DataError, match="0 tables have the label column 'label'"):
        vfl.VerticalClassifier().fit(frames)
    with pytest.raises(DataError, match="by party"):
        model.fit(frames["bank"])
    with pytest.raises(ConfigError, match="labels are a column"):
        model.fit(frames, y=[1])
    model.fit(frames)
    with pytest.raises(DataError, match="no table of telco"):
        model.predict({"bank": frames["bank"]})
    with pytest.raises(DataError, match="telco lacks 40 of the 240 rows"):
        model.predict({**frames, "telco": frames["telco"][:200]})
    with pytest.raises(DataError, match="given of bank, telco is no"):
        model.model_.predict(frames)


def test_a_policy_for_all_may_name_bottoms_that_train(frames):
    """Only the active party's may: with it at a passive party, the run would be refused."""
    model = vfl.VerticalClassifier(
        label="default",
        bottom={"telco": "mlp"},
        training={"passes": 1, "batch_size": 64},
        policy={"min_aligned_rows": 1, "allow_trainable": ["telco"]},
        **SMALL,
    )
    assert model.fit(frames).run_.rows == 240
