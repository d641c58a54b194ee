"""A party's own bottom, built and tried: in a run, and by ``vfl check`` before any run."""

from __future__ import annotations

import numpy as np

from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.models.bottoms import Bottom, build_bottom, probe_bottom
from vfl.models.config import DEFAULT_WIDTH, BottomInputs, CustomBottom
from vfl.models.custom import load_factory
from vfl.models.encodings import TrainingFeatures
from vfl.models.seeding import seeded
from vfl.party.config import PartySetup
from vfl.party.learning.bottom import BottomTrainer

_TRIAL_ROWS = 4096
"""Rows that a trial fits preprocessing and encodings to, and passes through the model."""


def build_own_bottom(setup: PartySetup, inputs: BottomInputs, seed: int, training: TrainingFeatures) -> Bottom:
    """Build the bottom that a party's file names, on the party's device, and run a few random rows through a copy.

    Args:
        training: features that encodings are fitted to.

    Raises:
        ConfigError: a custom factory cannot be found, or the job declares another bottom than this one.
        DataError: encodings cannot be fitted, as no column varies.
        ModelError: the bottom does not fit the columns or its contract, or a custom one raised.
    """
    width, factory = setup.job.model.widths.get(setup.name, DEFAULT_WIDTH), setup.given.bottom
    if factory is None and isinstance(setup.bottom, CustomBottom):
        with seeded(seed):  # a module may draw at random while it is imported
            factory = load_factory(setup.bottom.factory, setup.folder)
    bottom = build_bottom(setup.bottom, inputs, width, seed, factory, training)
    probe_bottom(bottom, setup.name)
    setup.check_trainable(bottom.trainable)
    with bottom.guard("when it was moved to the party's device"):
        return bottom.to(setup.config.device)


def trial_width(setup: PartySetup, table: Table) -> int:
    """Build a party's bottom for some rows of its table and pass them through; its width, 0 without features.

    In a run the width of encodings can differ, since it follows from the aligned rows.

    Raises:
        VflError: as ``build_own_bottom``.
    """
    if not table.has_features or setup.job.model.widths.get(setup.name) == 0:
        return 0
    rows = np.arange(min(len(table), _TRIAL_ROWS))
    preprocessor = Preprocessor.fit(table, rows)
    features = preprocessor.transform(table.select(rows))
    bottom = build_own_bottom(setup, preprocessor.inputs, setup.job.seed, features)
    setup.check_width(bottom.width)
    BottomTrainer(bottom, setup.name, setup.optimizer, setup.config.device).forward(features, training=False)
    return bottom.width
