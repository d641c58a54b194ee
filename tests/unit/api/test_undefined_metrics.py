"""Metrics that the labels of a run leave undefined are absent, and the active party's log says so."""

import polars as pl
from support.logs import captured_logs

import vfl


def scored(frames, label, **task):
    """What was measured on the test split, and the warnings."""
    job = vfl.Job(
        "credit",
        **task,
        model={"top": {"hidden": [8]}},
        training={"passes": 1, "local_epochs": 1},
        split={"validation": 0.0, "test": 0.2},
    )
    bank = vfl.Table(frames["bank"].with_columns(label.alias("default")), id="id", label="default")
    telco = vfl.Table(frames["telco"], id="id")
    with captured_logs() as events:
        run = vfl.simulate(job, active=vfl.Party("bank", bank), passive=vfl.Party("telco", telco))
    return run.test, [event for event in events if event["log_level"] == "warning"]


def test_a_multiclass_job_on_labels_of_two_classes(frames):
    metrics, warnings = scored(frames, pl.col("default"), task="multiclass", classes=3)
    assert 0 <= metrics["macro_auc"] <= 1
    assert [(event["event"], event["classes"]) for event in warnings] == [
        ("classes of the job do not occur in the training part", "2")
    ]


def test_a_split_of_one_class(frames):
    defaulted = pl.col("id").is_in(["c001", "c002"]).cast(pl.Int64)  # the split puts both into the training part
    metrics, warnings = scored(frames, defaulted, task="binary")
    assert metrics.keys() == {"accuracy", "log_loss", "median_certified_radius"}
    (event,) = warnings
    assert "undefined and left out" in event["event"]
    assert (event["split"], event["metrics"]) == ("test", "auc, average_precision, ks")
