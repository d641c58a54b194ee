"""What a checkpoint of a party holds: its aligned rows, its models with their optimizers, its interaction weights.

Nothing random has to be kept: rounding, batches and dropout of a step derive from seeds and the number of the step
(ADR 0006), and masks and keys of another attempt must be new (ADR 0007).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vfl.checkpoints.store import Snapshot
from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.errors import CheckpointError
from vfl.interact.fixed_point import IntArray
from vfl.party.learning.bottom import BottomTrainer, prefixed, under

_ROWS = "rows"
_TABLE = "table"
_SEED = "seed"
_PREPROCESSING = "preprocessing"
_BOTTOM = "bottom"
_INTERACTION = "interaction"


class Restorable(Protocol):
    """A model whose training can go on from an earlier state."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on from this state."""


def take_snapshot(
    step: int,
    rows: npt.NDArray[np.int64],
    table: Table,
    preprocessor: Preprocessor,
    bottom: BottomTrainer | None,
    seed: int,
) -> Snapshot:
    """State that both roles have.

    Args:
        rows: positions of the aligned rows in the party's whole table.
        table: the aligned rows.
        seed: derived from the party's private one, to know it again.
    """
    tensors = {_ROWS: torch.from_numpy(rows)} | (prefixed(_BOTTOM, bottom.state()) if bottom else {})
    return Snapshot(step, tensors, {_TABLE: table.digest, _PREPROCESSING: preprocessor.to_json(), _SEED: str(seed)})


def with_weights(snapshot: Snapshot, weights: Mapping[str, IntArray]) -> Snapshot:
    """The same and a side's interaction weights, as the interaction gives them."""
    tensors = prefixed(_INTERACTION, {name: torch.from_numpy(value) for name, value in weights.items()})
    return Snapshot(snapshot.step, {**snapshot.tensors, **tensors}, snapshot.facts)


def aligned_table(snapshot: Snapshot, table: Table) -> tuple[npt.NDArray[np.int64], Table]:
    """Positions of the aligned rows in the whole table, and these rows.

    Raises:
        CheckpointError: the table has changed since.
    """
    rows = snapshot.tensors[_ROWS].numpy()
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise _changed_table()
    aligned = table.select(rows)
    if aligned.digest != snapshot.facts[_TABLE]:
        raise _changed_table()
    return rows, aligned


def restore_bottom(snapshot: Snapshot, preprocessor: Preprocessor, bottom: BottomTrainer | None, seed: int) -> None:
    """Put the state that both roles have back.

    Args:
        preprocessor: fitted again; must have come out the same.
        seed: derived again, must be the same: rounding and dropout of the steps to come depend on it.

    Raises:
        CheckpointError: one did not, or the bottom is another one.
    """
    if snapshot.facts.get(_SEED) != str(seed):
        raise CheckpointError(
            "the private seed is not the one with which the run began",
            remedy="put the file 'private_seed' of party.toml back as it was, or start a new run",
        )
    if preprocessor.to_json() != snapshot.facts[_PREPROCESSING]:
        raise CheckpointError("the table is preprocessed otherwise than when the checkpoint was taken")
    if bottom is not None:
        load(bottom, under(_BOTTOM, snapshot.tensors))


def interaction_weights(snapshot: Snapshot) -> dict[str, IntArray]:
    """A side's interaction weights."""
    return {name: value.numpy() for name, value in under(_INTERACTION, snapshot.tensors).items()}


def load(model: Restorable, state: Mapping[str, torch.Tensor]) -> None:
    """Put a model's state back.

    Raises:
        CheckpointError: it is another model's.
    """
    try:
        model.load_state(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            "a model of the checkpoint does not fit this party's configuration",
            detail=str(error),
            remedy="put [bottom] and [optimizer] of party.toml back as they were, or start a new run",
        ) from error


def _changed_table() -> CheckpointError:
    return CheckpointError(
        "the table has changed since the checkpoint was taken",
        remedy="put the table back as it was, or start a new run",
    )
