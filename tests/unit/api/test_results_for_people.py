"""What a run leaves for people to read: a summary, a report of each party, and what the active party reaches alone."""

import json

import numpy as np
import pytest

import vfl
from vfl.errors import ConfigError

ANY_ROWS = {"min_aligned_rows": 1}
ROWS = 300


def tables():
    """Labels that only the passive party's columns explain."""
    rng = np.random.default_rng(5)
    helpful, noise = rng.normal(size=ROWS), rng.normal(size=ROWS)
    ids = [f"c{row:03d}" for row in range(ROWS)]
    bank = {"id": ids, "y": (helpful + 0.3 * rng.normal(size=ROWS) > 0).astype(int).tolist(), "noise": noise.tolist()}
    return bank, {"id": ids[:290], "helpful": helpful[:290].tolist(), "blank": [None] * 290}


def train(tmp_path, training=None, split=None, **party):
    bank, telco = tables()
    job = vfl.Job("credit", task="binary", seed=2, training=training, split=split)
    return vfl.simulate(
        job,
        active=vfl.Party("bank", vfl.Table(bank, id="id", label="y"), policy=ANY_ROWS, **party),
        passive=vfl.Party("telco", vfl.Table(telco, id="id"), policy=ANY_ROWS),
        output=tmp_path,
    )


def report(tmp_path, party, name="report.json"):
    (file,) = (tmp_path / party).rglob(name)
    return file.read_text(encoding="utf-8")


def test_the_joint_model_stands_beside_the_active_party_alone(tmp_path):
    run = train(tmp_path)
    assert run.alone.keys() == run.test.keys()
    assert run.test["auc"] > 0.85 > 0.7 > run.alone["auc"]
    shown = run.summary.splitlines()
    assert "rows in common                       290, 203 for training" in shown
    assert f"auc                         {run.test['auc']:>12.4f}{run.alone['auc']:>12.4f}" in shown
    assert max(map(len, shown)) <= 80


def test_each_party_keeps_a_report(tmp_path):
    run = train(tmp_path)
    bank, telco = json.loads(report(tmp_path, "bank")), json.loads(report(tmp_path, "telco"))
    assert bank["test"] == run.test
    assert bank["alone"] == run.alone
    assert bank["rows"]["table"] == 300
    assert bank["rows"]["aligned"] == telco["rows"]["aligned"] == 290
    assert len(bank["labels"]) == 2
    assert (telco["test"], telco["alone"], telco["labels"]) == ({}, {}, [])
    assert telco["columns"] == {"helpful": "numeric"}
    assert telco["left_out"] == {"blank": "blank in every row"}
    text = report(tmp_path, "bank", "report.txt")
    assert f"{run.alone['auc']:.4f}" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_comparison_can_be_turned_off(tmp_path):
    bank, telco = tables()
    files = vfl.write_federation(
        tmp_path,
        vfl.Job("credit", task="binary"),
        active=vfl.Party("bank", vfl.Table(bank, id="id", label="y")),
        passive=vfl.Party("telco", vfl.Table(telco, id="id")),
    )
    path = files.party("bank")
    path.write_text("train_alone = false\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    assert vfl.Party.from_toml(path).files.config.train_alone is False


def test_the_model_of_the_best_local_epoch_is_kept(tmp_path):
    """Its validation metric, computed from the saved parts, is the best of the history, which is not the last one."""
    split = {"validation": 0.3, "test": 0.2}
    run = train(tmp_path, training={"local_epochs": 12, "optimizer": {"learning_rate": 0.3}}, split=split)
    found = json.loads(report(tmp_path, "bank"))["best_epoch"]
    local = run.history[-12:]
    scores = [record["validation_auc"] for record in local]
    assert found["value"] == max(scores)
    assert found["epoch"] == local[scores.index(max(scores))]["epoch"]
    assert "kept the model of epoch" in report(tmp_path, "bank", "report.txt")


def test_training_ends_early_with_patience(tmp_path):
    split = {"validation": 0.3, "test": 0.2}
    training = {"local_epochs": 12, "patience": 1, "optimizer": {"learning_rate": 0.3}}
    history = train(tmp_path, training=training, split=split).history
    best = json.loads(report(tmp_path, "bank"))["best_epoch"]["epoch"]
    after = [record["loss"] for record in history if record["epoch"] > best]
    assert len(after) > 1
    assert len(set(after)) == 1, "only the epoch after the best one was trained"


@pytest.mark.parametrize("training", [{"keep_best": True}, {"patience": 3}])
def test_without_validation_rows_there_is_no_best_epoch(training):
    with pytest.raises(ConfigError, match="not valid") as caught:
        vfl.Job("credit", task="binary", training=training)
    assert "set split.validation" in caught.value.detail
