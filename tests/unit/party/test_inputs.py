"""A party's commitment to what it puts into a model: it changes with anything that shapes the model."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch

from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.job.tables import OptimizerConfig
from vfl.models.bottoms import build_bottom
from vfl.models.config import MlpBottom
from vfl.party.learning.bottom import BottomTrainer
from vfl.party.learning.inputs import InitialBottom, commit_to_inputs
from vfl.party.roles.common import PartyContext

ROWS = 12
CONFIG = MlpBottom(hidden=(3,))


def table_of(**changes) -> Table:
    ids = pl.Series([f"id {row}" for row in range(ROWS)])
    numbers = np.arange(2.0 * ROWS).reshape(ROWS, 2)
    none = np.empty((ROWS, 0), dtype=np.object_)
    return dataclasses.replace(Table(ids, ids, numbers, ("a", "b"), none, (), None), **changes)


def bottom_of(preprocessor: Preprocessor, seed: int = 1) -> BottomTrainer:
    bottom = build_bottom(CONFIG, preprocessor.inputs, 2, seed, None, None)
    return BottomTrainer(bottom, "clinic", OptimizerConfig(), "cpu")


OPTIMIZER, OUTPUTS = OptimizerConfig(), np.linspace(-1, 1, 2 * ROWS).reshape(ROWS, 2)


def committed(
    secret=bytes(32), table=None, rows=ROWS, config=CONFIG, optimizer=OPTIMIZER, seed=1, outputs=OUTPUTS, bottom=None
) -> bytes:
    table = table or table_of()
    preprocessor = Preprocessor.fit(table, np.arange(rows))
    model = bottom_of(preprocessor, seed) if bottom is None else bottom
    initial = InitialBottom(config, optimizer, model or None, np.array_split(outputs, 3))
    return commit_to_inputs(secret, table, preprocessor, initial)


def test_an_equal_run_has_an_equal_commitment():
    assert committed() == committed()
    assert len(committed()) == 32


@pytest.mark.parametrize(
    "changed",
    [
        {"secret": bytes(31) + b"1"},
        {"table": table_of(numeric=np.arange(2.0 * ROWS).reshape(ROWS, 2) + np.eye(ROWS, 2) * 1e-12)},
        {"table": table_of(numeric_names=("a", "c"))},
        {"rows": ROWS - 1},
        {"config": MlpBottom(hidden=(4,))},
        {"seed": 2},
        {"bottom": False},
        {"optimizer": OptimizerConfig(learning_rate=0.3)},
        {"outputs": OUTPUTS + 2.0**-16 * np.eye(ROWS, 2)},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_whatever_differs_makes_another(changed):
    assert committed(**changed) != committed()


def test_a_parameter_that_differs_in_its_last_bit_makes_another():
    table = table_of()
    preprocessor = Preprocessor.fit(table, np.arange(ROWS))
    bottom = bottom_of(preprocessor)
    before = committed(bottom=bottom)
    with torch.no_grad():
        weight = next(bottom.bottom.parameters())
        weight.view(-1)[0] = torch.nextafter(weight.view(-1)[0], torch.tensor(torch.inf))
    assert committed(bottom=bottom) != before


def test_the_widths_of_all_bottoms_are_part_of_what_noise_is_bound_to():
    """The scale of initial weights, and with it Z, depends on them."""

    def inputs(**widths):
        party = SimpleNamespace(keys=SimpleNamespace(peer_parts={}), widths=widths, _inputs=b"own")
        return PartyContext._all_inputs.fget(party)

    assert inputs(bank=4, clinic=4) == inputs(clinic=4, bank=4)
    assert inputs(bank=4, clinic=4) != inputs(bank=5, clinic=4)
