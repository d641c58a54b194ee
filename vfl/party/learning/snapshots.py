"""The content of a party's checkpoint: its aligned rows, models, optimizer state and interaction weights.

No random state is kept: rounding, batches and dropout of a step derive from seeds and the step number (ADR 0006), and
a new attempt must use new masks and keys (ADR 0007).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from vfl.checkpoints.store import Snapshot
from vfl.data.preprocess import Preprocessor
from vfl.data.table import Table
from vfl.errors import CheckpointError, MismatchError
from vfl.interact.fixed_point import IntArray
from vfl.interact.layer import LINEAGE
from vfl.party.learning.bottom import BottomTrainer, prefixed, under

_ROWS = "rows"
_TABLE = "table"
_SEED = "seed"
_SETTINGS = "settings"
_PREPROCESSING = "preprocessing"
_BOTTOM = "bottom"
_INTERACTION = "interaction"
_COVARIANCE = "covariance"
_SPLIT = "split"
UPPER = "upper"
"""Where the active party's top stands in its snapshots."""


@dataclass(frozen=True, slots=True)
class Commitments:
    """What an attempt is bound to.

    Attributes:
        session: digest of the keys of the attempt, which tells it from every other one.
        inputs: this party's commitment to what it put into the model.
        all_inputs: digest of those of all parties.
    """

    session: bytes
    inputs: bytes
    all_inputs: bytes


@dataclass(frozen=True, slots=True)
class OwnSettings:
    """What the steps after a checkpoint depend on beside it, to be recognized when a run is resumed.

    Attributes:
        seed: derived from the party's private seed; rounding and dropout depend on it.
        bottom: digest of the settings of bottom and optimizer. Others bind their noise to this party's commitment,
            which stays as it was in the beginning; with another bottom, a repeated step would differ by this party's
            part alone.
    """

    seed: int
    bottom: bytes


_COMMITMENTS = tuple(field.name for field in fields(Commitments))


class Restorable(Protocol):
    """A model that can resume training from an earlier state."""

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """Restore this state."""


def take_snapshot(
    step: int,
    rows: npt.NDArray[np.int64],
    table: Table,
    preprocessor: Preprocessor,
    bottom: BottomTrainer | None,
    settings: OwnSettings,
    commitments: Commitments,
) -> Snapshot:
    """Take a snapshot of the state that both roles have.

    Args:
        rows: positions of the aligned rows in the party's full table.
        table: the aligned rows.
        commitments: of the attempt.
    """
    facts = {_TABLE: table.digest, _PREPROCESSING: preprocessor.to_json(), _SEED: str(settings.seed)}
    facts[_SETTINGS] = settings.bottom.hex()
    facts |= {name: getattr(commitments, name).hex() for name in _COMMITMENTS}
    tensors = {_ROWS: torch.from_numpy(rows)} | (prefixed(_BOTTOM, bottom.state()) if bottom else {})
    return Snapshot(step, tensors, facts)


def with_weights(snapshot: Snapshot, weights: Mapping[str, IntArray]) -> Snapshot:
    """The snapshot with a side's interaction weights added, as provided by the interaction."""
    tensors = prefixed(_INTERACTION, {name: torch.from_numpy(value) for name, value in weights.items()})
    return Snapshot(snapshot.step, {**snapshot.tensors, **tensors}, snapshot.facts)


def with_covariance(snapshot: Snapshot, covariance_DD: npt.NDArray[np.float64] | None) -> Snapshot:
    """The snapshot with the covariance of a training bottom's outputs before the pass added, if there is one."""
    if covariance_DD is None:
        return snapshot
    return Snapshot(snapshot.step, {**snapshot.tensors, _COVARIANCE: torch.from_numpy(covariance_DD)}, snapshot.facts)


def covariance_of(snapshot: Snapshot) -> npt.NDArray[np.float64] | None:
    """What ``with_covariance`` added."""
    return snapshot.tensors[_COVARIANCE].numpy() if _COVARIANCE in snapshot.tensors else None


def with_split(snapshot: Snapshot, packed: npt.NDArray[np.uint8] | None) -> Snapshot:
    """The snapshot with the split that the active party chose added, as it crossed, if there is one."""
    if packed is None:
        return snapshot
    return Snapshot(snapshot.step, {**snapshot.tensors, _SPLIT: torch.from_numpy(packed)}, snapshot.facts)


def split_of(snapshot: Snapshot) -> npt.NDArray[np.uint8]:
    """What ``with_split`` added.

    Raises:
        CheckpointError: nothing was added.
    """
    packed = snapshot.tensors.get(_SPLIT)
    if packed is None or packed.dtype != torch.uint8:
        raise CheckpointError("the checkpoint does not say which rows train", remedy="start a new run")
    return packed.numpy()


def aligned_table(snapshot: Snapshot, table: Table) -> tuple[npt.NDArray[np.int64], Table]:
    """Positions of the aligned rows in the full table, and the rows themselves.

    Raises:
        CheckpointError: the table has changed since the checkpoint was taken.
    """
    rows = snapshot.tensors[_ROWS].numpy()
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(table):
        raise _changed_table()
    aligned = table.select(rows)
    if aligned.digest != snapshot.facts[_TABLE]:
        raise _changed_table()
    return rows, aligned


def restore_bottom(
    snapshot: Snapshot, preprocessor: Preprocessor, bottom: BottomTrainer | None, settings: OwnSettings
) -> None:
    """Restore the state that both roles have.

    Args:
        preprocessor: fitted again; must equal the one in the snapshot.
        settings: must equal those of the snapshot.

    Raises:
        CheckpointError: the preprocessing, the seed or the settings differ, or the bottom is a different model.
    """
    if snapshot.facts.get(_SEED) != str(settings.seed):
        raise CheckpointError(
            "the private seed is not the one the run began with",
            remedy="restore the file named by 'private_seed' in party.toml, or start a new run",
        )
    if preprocessor.to_json() != snapshot.facts[_PREPROCESSING]:
        raise CheckpointError(
            "the table is preprocessed differently than when the checkpoint was taken", remedy="start a new run"
        )
    if snapshot.facts.get(_SETTINGS) != settings.bottom.hex():
        raise CheckpointError(
            "[bottom] or [optimizer] is not what the run began with",
            remedy="restore [bottom] and [optimizer] in party.toml, or start a new run",
        )
    load_bottom(snapshot, bottom)


def load_bottom(snapshot: Snapshot, bottom: BottomTrainer | None) -> None:
    """Give a bottom the state that a snapshot has of it.

    Raises:
        CheckpointError: it is a different model.
    """
    if bottom is not None:
        load(bottom, under(_BOTTOM, snapshot.tensors))


def trained_part(snapshot: Snapshot, *, bottom: bool) -> dict[str, torch.Tensor]:
    """Copies of what a snapshot has of the model, which the next steps change.

    Args:
        bottom: whether the bottom trains; one that does not is left out.
    """
    starts = tuple(f"{name}." for name in (_INTERACTION, UPPER, *([_BOTTOM] if bottom else [])))
    return {name: value.detach().clone() for name, value in snapshot.tensors.items() if name.startswith(starts)}


def interaction_weights(snapshot: Snapshot) -> dict[str, IntArray]:
    """A side's interaction weights from a snapshot."""
    return {name: value.numpy() for name, value in under(_INTERACTION, snapshot.tensors).items()}


def session_of(snapshot: Snapshot) -> bytes:
    """Digest of the keys of the attempt that took the snapshot; empty if it has none."""
    return bytes.fromhex(snapshot.facts.get("session", ""))


def own_inputs(snapshot: Snapshot) -> bytes:
    """This party's commitment to what it put into the model in the beginning; empty if there is none."""
    return bytes.fromhex(snapshot.facts.get("inputs", ""))


def check_inputs(snapshot: Snapshot, all_inputs: bytes) -> None:
    """Check that all parties are committed to the same as in the beginning.

    Raises:
        MismatchError: a peer is committed to another table or bottom; noise would be drawn anew for equal values.
    """
    if snapshot.facts.get("all_inputs") != all_inputs.hex():
        raise MismatchError(
            "a party resumes with a commitment to another table or bottom than the run began with",
            remedy="check that all parties have kept their checkpoints of this run, or start a new run",
        )


def lineage_of(snapshot: Snapshot) -> bytes:
    """Head of the hash chain of what has shaped the weights (``vfl.interact.layer.side_state``)."""
    head = snapshot.tensors.get(f"{_INTERACTION}.{LINEAGE}")
    return b"" if head is None else head.to(torch.uint8).numpy().tobytes()


def load(model: Restorable, state: Mapping[str, torch.Tensor]) -> None:
    """Restore a model's state.

    Raises:
        CheckpointError: the state belongs to a different model.
    """
    try:
        model.load_state(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(
            "a model in the checkpoint does not match this party's configuration",
            detail=str(error),
            remedy="restore [bottom] and [optimizer] in party.toml, or start a new run",
        ) from error


def _changed_table() -> CheckpointError:
    return CheckpointError(
        "the table has changed since the checkpoint was taken",
        remedy="restore the table, or start a new run",
    )
