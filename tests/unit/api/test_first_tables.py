"""Tables as people have them on the first day (tests/cases): each trains, or is refused with what to do about it."""

from pathlib import Path

import numpy as np
import pytest

import vfl
from vfl.data.table import load_table
from vfl.errors import DataError

CASES = Path(__file__).resolve().parents[2] / "cases"
ANY_ROWS = {"min_aligned_rows": 1}
ACTIVE = {"source": "active_plain.csv", "label": "y"}
PASSIVE = {"source": "passive_plain.csv"}


def table(source, **settings):
    return vfl.Table(CASES / source, **{"id": "id"} | settings)


def train(active=ACTIVE, passive=PASSIVE, **job):
    job = {"task": "binary", "training": {"local_epochs": 2}} | job
    return vfl.simulate(
        vfl.Job("case", seed=3, **job),
        active=vfl.Party("bank", table(**active), policy=ANY_ROWS),
        passive=vfl.Party("telco", table(**passive), policy=ANY_ROWS),
    )


def test_labels_yes_and_no():
    run = train({"source": "labels_yes_no.csv", "label": "churn"})
    assert run.model.classes == ("no", "yes")
    assert run.test["auc"] > 0.7


def test_the_positive_label_can_be_the_other_one():
    run = train({"source": "labels_yes_no.csv", "label": "churn", "positive_label": "no"})
    assert run.model.classes == ("yes", "no")


def test_labels_of_three_words():
    classes = ["low", "mid", "high"]
    three = {"task": "multiclass", "classes": 3}
    run = train({"source": "labels_three_words.csv", "label": "risk", "classes": classes}, **three)
    assert run.model.classes == tuple(classes)
    tables = {"bank": table("labels_three_words.csv", label="risk"), "telco": table(**PASSIVE)}
    assert set(run.model.predict(tables)) <= set(classes)
    assert train({"source": "labels_three_words.csv", "label": "risk"}, **three).model.classes == ("high", "low", "mid")


def test_missing_labels():
    active = {"source": "missing_labels.csv", "label": "y"}
    with pytest.raises(DataError) as caught:
        train(active)
    assert "27 of 240 values are missing" in caught.value.detail
    assert train({**active, "rows_without_label": "leave out"}).rows == 213


def test_one_row_of_a_class():
    run = train({"source": "one_row_of_a_class.csv", "label": "y"}, task="multiclass", classes=3)
    assert run.model.classes == (0, 1, 2)
    assert all(np.isfinite(value) for value in run.test.values())


@pytest.mark.parametrize("loss", ["mse", "huber", "poisson"])
@pytest.mark.parametrize("method", ["stagewise", "joint"])
def test_skewed_counts(loss, method):
    training = {"method": method, "local_epochs": 2, "passes": 2}
    run = train({"source": "skewed_counts.csv", "label": "visits"}, task="regression", loss=loss, training=training)
    assert np.isfinite(run.test["r2"])
    counts = run.model.predict({"bank": table("skewed_counts.csv", label="visits"), "telco": table(**PASSIVE)})
    assert np.isfinite(counts).all()
    assert loss != "poisson" or (counts > 0).all()


def test_dates():
    with pytest.raises(DataError) as caught:
        train(passive={"source": "dates.csv"})
    assert 'columns = { opened = ["days", "weekday"] }' in caught.value.detail
    parts = {"opened": "days", "last_seen": ["days", "hour", "weekday"]}
    assert train(passive={"source": "dates.csv", "columns": parts}).rows == 240


def test_semicolons_and_decimal_commas():
    config = table("semicolon_decimal_comma.csv").config
    plain = load_table(table("passive_plain.csv").config, needs_label=False)
    assert load_table(config, needs_label=False).digest == plain.digest
    assert train(passive={"source": "semicolon_decimal_comma.csv"}).rows == 240


def test_another_encoding():
    with pytest.raises(DataError) as caught:
        train(passive={"source": "gbk.csv"})
    assert 'encoding = "gb18030"' in caught.value.remedy
    assert train(passive={"source": "gbk.csv", "encoding": "gbk"}).rows == 240


def test_numbers_in_disguise():
    described = table("numbers_in_disguise.csv").describe()
    assert {column.name: column.kind for column in described.columns if column.use == "feature"} == {
        **dict.fromkeys(("share", "amount", "fee", "g1"), "numeric")
    }
    assert train(passive={"source": "numbers_in_disguise.csv"}).rows == 240


def test_columns_like_identifiers():
    described = table("identifier_like.csv").describe()
    left_out = {column.name for column in described.columns if column.use == "left out"}
    assert left_out == {"contract_no", "constant", "blank"}
    assert train(passive={"source": "identifier_like.csv"}).rows == 240


def test_ids_with_decimals():
    active, passive = {"source": "float_ids_active.csv", "label": "y"}, {"source": "integer_ids_passive.csv"}
    with pytest.raises(DataError, match="exported with decimals"):
        train(active, passive)
    assert train(active, passive, ids={"type": "integer"}).rows == 240


def test_balanced_classes_and_a_weight_column():
    frame = {
        "id": [f"c{row:04d}" for row in range(240)],
        "y": [int(row % 10 == 0) for row in range(240)],
        "w": [1.0 + row % 3 for row in range(240)],
    }
    passive = vfl.Party("telco", table(**PASSIVE), policy=ANY_ROWS)
    scores = {}
    for weights in (None, "balanced"):
        job = vfl.Job("case", task="binary", class_weights=weights, seed=3)
        bank = vfl.Party("bank", vfl.Table(frame, id="id", label="y", weight="w"), policy=ANY_ROWS)
        run = vfl.simulate(job, active=bank, passive=passive)
        tables = {"bank": vfl.Table(frame, id="id"), "telco": table(**PASSIVE)}
        scores[weights] = run.model.predict_proba(tables)[:, 1].mean()
    assert scores["balanced"] > 0.35 > 0.25 > scores[None]
