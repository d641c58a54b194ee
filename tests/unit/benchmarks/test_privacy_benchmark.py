"""The parts of the benchmark of disclosure, on a tiny table."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

pytest.importorskip("flint", reason="python-flint is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from benchmarks.privacy import __main__ as command
from benchmarks.privacy import measure
from benchmarks.privacy.features import chosen_rows, reconstruction
from benchmarks.privacy.measure import Effort
from benchmarks.privacy.recording import Noise
from benchmarks.privacy.runs import Tables, View, in_the_clear, real_tables, run_once
from benchmarks.privacy.table import row

ROWS = 300


@pytest.fixture(scope="session")
def tables() -> Tables:
    rng = np.random.default_rng(11)
    own, other = rng.normal(size=(ROWS, 2)), rng.integers(0, 6, (ROWS, 3)) / 6
    score = own @ (1.0, -1.0) + 3 * (other - 0.5) @ (1.0, -1.0, 1.0)
    ids = [f"row {number:04d}" for number in range(ROWS)]
    active = pl.DataFrame({"id": ids, "y": (score > 0).astype(np.int64), **_columns(own)})
    return Tables(
        "tiny",
        active,
        pl.DataFrame({"id": ids, **_columns(other)}),
        "id",
        "y",
        {"task": "binary"},
        "auc",
        known=(100,),
        attacked=80,
        training={"batch_size": 128, "local_epochs": 1, "optimizer": {"learning_rate": 0.05}},
    )


@pytest.fixture(scope="session")
def default_view(tables) -> View:
    """Of the run that several tests look at, and none changes."""
    return run_once(tables, 0, 0)


def _columns(values):
    return {f"x{at}": column for at, column in enumerate(values.T)}


def test_a_view_has_everything_that_was_released_once(tables, default_view):
    view = default_view
    again, other, exact = (
        run_once(tables, 0, draw, noise) for draw, noise in ((0, Noise.DEFAULT), (1, Noise.DEFAULT), (0, Noise.NONE))
    )
    assert view.z_NK.shape == (ROWS, 2)
    assert (view.exact_NK != 0).all()
    np.testing.assert_array_equal(view.exact_NK, again.exact_NK)
    assert not (view.exact_NK == other.exact_NK).any()
    assert not exact.noise().any()
    relative = view.noise().std(axis=0) / (view.alpha_ND @ view.weights_DK / view.units).std(axis=0)
    assert relative == pytest.approx(0.4, rel=0.2)


def test_an_encrypted_run_gives_the_same_view(tables, default_view):
    views = [default_view, run_once(tables, 0, 0, encrypted=True)]
    np.testing.assert_array_equal(views[0].exact_NK, views[1].exact_NK)
    np.testing.assert_array_equal(views[0].weights_DK, views[1].weights_DK)
    assert views[0].test == views[1].test


def test_several_runs_are_attacked_together_and_tell_more(tables, default_view):
    views = [default_view, *(run_once(tables, seed, 0) for seed in range(1, 4))]
    known, attacked = chosen_rows(tables, ROWS, 100, 0)[::-1]
    assert not np.intersect1d(known, attacked).size
    gains = [reconstruction(tables, views[:count], 100, seed=0).advantage for count in (1, 4)]
    assert gains[1] > gains[0]


def test_models_in_the_clear_are_trained_on_the_columns_that_they_may_use(tables):
    alone, pooled = (in_the_clear(tables, 0, alone=alone) for alone in (True, False))
    assert 0.5 < alone < pooled


def test_the_interval_is_that_of_the_means_of_groups():
    found = row("t", "it", [(0, 1.0), (0, 3.0), (1, 4.0), (1, 4.0)])
    assert found.mean == 3.0
    assert found.half_width == pytest.approx(12.706, abs=1e-3)  # Student's t with one degree of freedom
    assert found.values == 4
    assert "3.0000 ± 12.7" in str(found)
    alone = row("t", "it", [(0, 1.0), (0, 3.0)])
    assert alone.half_width is None
    assert "±" not in str(alone)


@pytest.mark.slow
def test_the_command_measures_everything_and_keeps_it(tables, tmp_path, monkeypatch, capsys):
    def of_name(data, name):
        few = {} if name == "default_credit" else {"active": tables.active[:150], "passive": tables.passive[:150]}
        return replace(tables, name=name, **few)

    monkeypatch.setattr(command, "real_tables", of_name)
    monkeypatch.setattr(command, "QUICK", Effort(1, 1, 2))
    monkeypatch.setattr(measure, "CASES", measure.CASES[:1])
    path = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["privacy", "--data", "nowhere", "--quick", "--json", str(path)])
    command.main()
    content = json.loads(path.read_text(encoding="utf-8"))
    shown = {r["what"]: r["mean"] for r in content["rows"] if r["table"] == "default_credit"}
    assert {"test auc", "test auc without noise", "advantage after 2 runs, 100 known rows"} <= shown.keys()
    assert shown["decoding, without noise, 100 known rows: W found exactly"] == 1
    assert shown["decoding, default run, 100 known rows: W found exactly"] == 0
    assert content["effort"] == {"splits": 1, "draws": 1, "runs": 2}
    assert {r["table"] for r in content["rows"]} == {"default_credit", "motor", "vehicle"}
    assert "columns recovered by lattice" in capsys.readouterr().out


def test_real_tables_are_read_if_they_are_there():
    data = Path(os.environ.get("VFL_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))
    if not (data / "motor_hetero_guest.csv").is_file():
        pytest.skip(f"example tables are not in {data}; set VFL_DATA to their folder")
    for name, columns in (("default_credit", 10), ("motor", 7), ("vehicle", 9)):
        assert real_tables(data, name).passive.width == columns + 1
