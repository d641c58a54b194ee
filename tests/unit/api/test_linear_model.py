"""One line of a job makes it a joint linear model, about as good as one on the joined table."""

import numpy as np
import pytest

import vfl

ROWS, COLUMNS = 600, 30
ANY_ROWS = {"min_aligned_rows": 1, "allow_unencrypted": True}
PLAIN = {"protocol": "plaintext"}


def tables(task):
    """Every column matters a little."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(ROWS, COLUMNS))
    signal = x @ rng.normal(size=COLUMNS) / COLUMNS**0.5
    y = signal + 0.3 * rng.normal(size=ROWS)
    labels = y if task == "regression" else (y > 0).astype(int)
    ids = [f"c{row:03d}" for row in range(ROWS)]
    parts = [{f"x{at}": x[:, at].tolist() for at in range(first, COLUMNS, 2)} for first in (0, 1)]
    return {"id": ids, "y": labels.tolist(), **parts[0]}, {"id": ids, **parts[1]}


@pytest.mark.parametrize(("task", "metric", "least"), [("regression", "r2", 0.85), ("binary", "auc", 0.93)])
def test_it_is_about_as_good_as_one_on_the_joined_table(task, metric, least, tmp_path):
    bank, telco = tables(task)

    def trained(kind):
        return vfl.simulate(
            vfl.Job("linear", task=task, seed=1, model={"kind": kind}, interaction=PLAIN),
            active=vfl.Party("bank", vfl.Table(bank, id="id", label="y"), policy=ANY_ROWS),
            passive=vfl.Party("telco", vfl.Table(telco, id="id"), policy=ANY_ROWS),
            output=tmp_path / kind,
        ).test[metric]

    linear = trained("linear")
    assert linear > least
    assert linear > trained("network") + 0.02


def test_counts_do_not_make_it_diverge(tmp_path):
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        own, other = rng.normal(size=(2, 2000))
        counts = rng.poisson(np.exp(0.3 + 0.5 * own - 0.5 * other)).astype(float)
        ids = [f"c{row:04d}" for row in range(2000)]
        run = vfl.simulate(
            vfl.Job(
                "counts", task="regression", loss="poisson", seed=seed, model={"kind": "linear"}, interaction=PLAIN
            ),
            active=vfl.Party(
                "bank",
                vfl.Table({"id": ids, "y": counts.tolist(), "own": own.tolist()}, id="id", label="y"),
                policy=ANY_ROWS,
            ),
            passive=vfl.Party("telco", vfl.Table({"id": ids, "other": other.tolist()}, id="id"), policy=ANY_ROWS),
            output=tmp_path / str(seed),
        )
        assert max(epoch["loss"] for epoch in run.history) < 1.0
        assert run.test["r2"] > 0.3
