"""Joint models with default settings beside centralized models on the joined tables, on the same splits.

python -m benchmarks.accuracy [--data FOLDER] [--splits 5] [--only NAME] [--json FILE]

"linear joint" is the same with ``model.kind = "linear"``, beside the centralized linear model.

Centralized are the best linear model and the best small network of scikit-learn; boosted trees stand beside them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import vfl
from benchmarks.accuracy.tables import SplitTable, tables
from benchmarks.reporting.machine import description
from vfl.align.order import canonical_order
from vfl.data.split import split_rows
from vfl.ids import Split

TEST = 0.3
ALLOWED = {"auc": 0.01, "accuracy": 0.01, "r2": 0.03}
KINDS = ("linear", "network", "trees")


def main() -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = [measured(table, options.splits) for table in tables(options.data) if options.only in (None, table.name)]
    show(results)
    if options.json:
        content = {"machine": description(), "splits": options.splits, "tables": results}
        options.json.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def measured(table: SplitTable, splits: int) -> dict:
    """Means and deviations over some splits."""
    scores: dict[str, list[float]] = {}
    started = time.monotonic()
    for seed in range(1, splits + 1):
        linear = {"linear joint": joint(table, seed, kind="linear")["joint"]}
        for name, score in {**joint(table, seed), **linear, **centralized(table, seed)}.items():
            scores.setdefault(name, []).append(score)
    means = {name: mean(values) for name, values in scores.items()}
    best = max(means["linear"], means["network"])
    return {
        "table": table.name,
        "rows": table.active.height,
        "columns": table.columns.shape[1],
        "metric": table.metric,
        "means": means,
        "deviations": {name: stdev(values) if splits > 1 else 0.0 for name, values in scores.items()},
        "behind_best": best - means["joint"],
        "allowed": ALLOWED[table.metric],
        "seconds": time.monotonic() - started,
    }


def joint(table: SplitTable, seed: int, kind: str = "network") -> dict[str, float]:
    """The encrypted joint model of a kind, and the active party alone."""
    classes = {"classes": table.classes} if table.task == "multiclass" else {}
    job = vfl.Job("accuracy", task=table.task, seed=seed, split={"test": TEST}, model={"kind": kind}, **classes)
    policy = {"min_aligned_rows": 1, "min_scored_rows": 1}
    with tempfile.TemporaryDirectory() as folder:
        run = vfl.simulate(
            job,
            active=vfl.Party("bank", vfl.Table(table.active, id="id", label="y"), policy=policy),
            passive=vfl.Party("telco", vfl.Table(table.passive, id="id"), policy=policy),
            output=folder,
        )
    return {"joint": run.test[table.metric], "alone": run.alone[table.metric]}


def centralized(table: SplitTable, seed: int) -> dict[str, float]:
    """Scores of models on the joined table, by kind, on the split of the joint model."""
    order = canonical_order(table.active["id"].cast(pl.String))
    parts = {split: order[rows] for split, rows in split_rows(len(order), 0.0, TEST, seed).items()}
    columns, labels = table.columns, table.active["y"].to_numpy()
    train, test = parts[Split.TRAIN], parts[Split.TEST]
    scores = {}
    for kind, model in zip(KINDS, _models(table.task, len(train)), strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(columns[train], labels[train])
        scores[kind] = _score(table.metric, model, columns[test], labels[test])
    return scores


def _models(task: str, rows: int) -> tuple:
    early = {"early_stopping": rows > 1000, "max_iter": 500, "hidden_layer_sizes": (32, 32), "random_state": 0}
    if task == "regression":
        network, linear, trees = MLPRegressor(**early), Ridge(), HistGradientBoostingRegressor(random_state=0)
    else:
        network, linear = MLPClassifier(**early), LogisticRegression(max_iter=1000)
        trees = HistGradientBoostingClassifier(random_state=0)
    return make_pipeline(StandardScaler(), linear), make_pipeline(StandardScaler(), network), trees


def _score(metric: str, model: object, columns: np.ndarray, labels: np.ndarray) -> float:
    if metric == "auc":
        return float(roc_auc_score(labels, model.predict_proba(columns)[:, 1]))
    score = accuracy_score if metric == "accuracy" else r2_score
    return float(score(labels, model.predict(columns)))


def show(results: list[dict]) -> None:
    """A row for each table."""
    shown = Table(title="test metrics, mean of the splits")
    for column in (
        "table",
        "rows x columns",
        "metric",
        "joint",
        "linear joint",
        "linear",
        "network",
        "trees",
        "alone",
        "behind",
        "allowed",
    ):
        shown.add_column(column, justify="left" if column in ("table", "metric") else "right")
    for result in results:
        means = result["means"]
        met = result["behind_best"] <= result["allowed"]
        numbers = [f"{means[name]:.3f}" for name in ("joint", "linear joint", *KINDS, "alone")]
        size = f"{result['rows']:,} x {result['columns']}"
        behind = f"{result['behind_best']:+.3f} {'met' if met else 'missed'}"
        shown.add_row(result["table"], size, result["metric"], *numbers, behind, f"{result['allowed']:.2f}")
    Console(width=120).print(shown)


if __name__ == "__main__":
    main()
