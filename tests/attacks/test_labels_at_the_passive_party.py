"""Label inference from everything that a passive party received in a default run, and on a build that tells it more."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import vfl
from benchmarks.privacy.labels import received_in_default_run, received_with_trainable_bottom
from benchmarks.privacy.recording import recorded
from benchmarks.privacy.runs import PASSIVE, Tables, make_job, make_parties
from vfl.ids import Split

ROWS = 600


@pytest.fixture(scope="module")
def tables() -> Tables:
    rng = np.random.default_rng(3)
    own, other = rng.normal(size=(ROWS, 3)), rng.normal(size=(ROWS, 4))
    score = own @ (1.0, -1.0, 0.5) + other @ (1.0, -1.0, 0.5, 0.0)
    ids = [f"row {number:04d}" for number in range(ROWS)]
    active = pl.DataFrame({"id": ids, "y": (score > 0.5).astype(np.int64), **_columns(own)})
    passive = pl.DataFrame({"id": ids, **_columns(other)})
    return Tables(
        "made", active, passive, "id", "y", {"task": "binary"}, "auc", training={"batch_size": 64}, split={"test": 0.3}
    )


def _columns(values):
    return {f"x{at}": column for at, column in enumerate(values.T)}


def test_nothing_that_a_passive_party_receives_in_a_default_run_tells_labels(tables):
    found = received_in_default_run(tables, split=0)
    assert not found.succeeds, found


def test_the_same_attacks_read_labels_from_gradients_of_activations(tables):
    found = received_with_trainable_bottom(tables, split=0)
    assert found.succeeds
    assert min(found.direction, found.spectral, found.clusters, found.regression, found.neighbors) > 0.97


def test_the_attack_sees_every_message_about_a_row(tables):
    """A masked product for each release, and the encrypted gradient of each pass, of every training row."""
    active, passive = make_parties(tables, draw=0)
    with recorded() as seen:
        vfl.simulate(make_job(tables, 0, encrypted=True), active=active, passive=[passive])
    rows, received = seen.received_by_row(PASSIVE)
    primes, stages = len(seen.active._state.setup.parameters.primes), 2
    assert len(rows) == len(seen.active._state.dataset.rows_of(Split.TRAIN))
    assert received.shape[1] == stages * (1 + 2 * primes)
    assert abs(received).max() <= 0.5
    assert abs(received.mean()) < 0.01
