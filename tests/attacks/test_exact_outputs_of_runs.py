"""Whole runs whose outputs are exact give the passive party's columns away; as they are, they do not.

Simulated federations in which the active party attacks what it was given: after training, in the evaluation pass, with
columns as activations, and with the narrow outputs of a default run. Further cases, on single layers:
``test_exact_outputs.py``.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

pytest.importorskip("flint", reason="python-flint is not installed")
pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from benchmarks.privacy import exact as decoding
from benchmarks.privacy.exact import CASES, decode, lattice_case
from benchmarks.privacy.recording import Noise
from benchmarks.privacy.runs import Tables, run_once

ROWS, LEVELS = 420, 12


@pytest.fixture(scope="module")
def tables() -> Tables:
    """A label that needs both sides; the passive party's columns have few values, as many real ones do."""
    rng = np.random.default_rng(7)
    own, other = rng.normal(size=(ROWS, 3)), rng.integers(0, LEVELS, (ROWS, 6)) / LEVELS
    score = own @ (1.0, -1.0, 0.5) + 4 * (other - 0.5) @ (1.0, -1.0, 0.5, 0.5, 1.0, -0.5)
    ids = [f"row {number:04d}" for number in range(ROWS)]
    active = pl.DataFrame({"id": ids, "y": (score > 0).astype(np.int64), **_columns(own)})
    passive = pl.DataFrame({"id": ids, **_columns(other)})
    return Tables(
        "made", active, passive, "id", "y", {"task": "binary"}, "auc", (200,), 100, {"batch_size": 64}, {"test": 0.2}
    )


def _columns(values):
    return {f"x{at}": column for at, column in enumerate(values.T)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wide_outputs_of_a_run_give_everything_away_without_noise_and_nothing_as_they_are(tables, case):
    assert lattice_case(tables, case, Noise.NONE) == 1.0
    assert lattice_case(tables, case, Noise.LEAST) == 0.0
    assert lattice_case(tables, case, Noise.DEFAULT) == 0.0


@pytest.mark.slow
def test_the_default_run_gives_rows_away_bit_for_bit_without_noise_and_none_as_it_is(tables, monkeypatch):
    sound = decode(tables, run_once(tables, 1, 1, Noise.DEFAULT), 200, seed=0)
    # Trees only add to the cells that are guessed, which are judged of the sound run alone, and take most of the time.
    monkeypatch.setattr(decoding, "_by_trees", lambda inputs, known, attacked, targets: np.zeros(targets.shape[1]))
    exact, least = (decode(tables, run_once(tables, 1, 1, noise), 200, seed=0) for noise in (Noise.NONE, Noise.LEAST))
    assert exact.lattice == 0.0  # two outputs are too few for lattice reduction
    assert exact.weights
    assert exact.exact_rows > 0.9
    assert exact.linked > 0.9
    assert sound.lattice == 0.0
    assert not sound.weights
    assert sound.exact_rows == 0.0
    assert sound.linked < 0.25
    assert sound.cells - sound.own_cells < 0.25
    # The least noise hides every bit, but not which row of a table it is; that takes noise in proportion to Z.
    assert not least.weights
    assert least.exact_rows == 0.0
    assert least.linked > sound.linked + 0.3
    assert least.rank < sound.rank < sound.own_rank
