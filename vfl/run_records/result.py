"""The results of a run so far. They are part of every checkpoint, so they continue when the run resumes."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

BEST = "best"
"""In the record of an epoch whose model was kept."""


@dataclass
class Recovery:
    """One interruption after which the run resumed. ``seconds`` is from the interruption to the first new step."""

    reason: str
    where: str
    steps_lost: int
    seconds: float


@dataclass
class RunResult:
    """Times in seconds, traffic in bytes. Steps that were lost and repeated count once.

    Attributes:
        steps_kept_durably: training steps up to the last durable checkpoint, even if it could not be written.
        epoch_steps: training steps so far in the current epoch.
        epoch_loss: sum of their losses.
        history: mean loss of each epoch and the metrics computed after it; one whose model was kept as the best has
            ``best``, which is 1. Passes that ``training.patience`` left out have no record.
        test: metrics of the joint model on the test rows.
        alone: the same of a model that the active party trained on its own columns, with the same rows and split.
    """

    run: str
    party_rows: dict[str, int] = field(default_factory=dict)
    rows_without_id: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    train_rows: int = 0
    steps: int = 0
    trained_samples: int = 0
    seconds_setup: float = 0.0
    seconds_alignment: float = 0.0
    seconds_training: float = 0.0
    seconds_evaluation: float = 0.0
    training_bytes_sent: dict[str, int] = field(default_factory=dict)
    steps_kept_durably: int = 0
    epoch_steps: int = 0
    epoch_loss: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    test: dict[str, float] = field(default_factory=dict)
    alone: dict[str, float] = field(default_factory=dict)
    certified_lipschitz: float = 0.0
    peak_memory: dict[str, int] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)

    @property
    def last_epoch(self) -> int:
        """Number of the last epoch that is over, from 1; 0 before."""
        return int(self.history[-1]["epoch"]) if self.history else 0

    @property
    def best_epochs(self) -> list[int]:
        """Numbers, from 1, of the epochs whose models were kept as the best; the last of them is that of the result."""
        return [int(record["epoch"]) for record in self.history if BEST in record]

    def note_best(self, epoch: int) -> None:
        """Note that the model of this epoch, from 1, was kept as the best."""
        for record in self.history:
            if record["epoch"] == epoch:
                record[BEST] = 1.0

    def report(self) -> dict[str, Any]:
        """The results by name, without what only a run in progress needs: it would be 0 in every report."""
        inner = ("steps_kept_durably", "epoch_steps", "epoch_loss")
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in inner}

    def to_json(self) -> str:
        """Text from which ``from_json`` creates an equal result."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RunResult:
        """Read what ``to_json`` wrote."""
        content = json.loads(text)
        recoveries = [Recovery(**recovery) for recovery in content.pop("recoveries")]
        return cls(**content, recoveries=recoveries)
