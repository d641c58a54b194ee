"""What a party keeps beside its part of a model for people to read: ``report.json`` and ``report.txt``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vfl.data.description import distribution
from vfl.ids import Split
from vfl.party.roles.common import PartyContext
from vfl.run_records.strict_json import strict_json
from vfl.run_records.summary import LABEL_WIDTH, metric_rows
from vfl.runtime.foreign_text import printable_lines

_WIDTH = 80


@dataclass(frozen=True)
class BestEpochFound:
    """Which epoch was kept, counted from 1 over the run, and its validation metric."""

    epoch: int
    metric: str
    value: float


@dataclass(frozen=True)
class RunReport:
    """One party's view of a run that is over. Of its own rows there are counts only.

    Attributes:
        rows: of this party's table: ``table``, ``without id``, ``without label``, ``aligned``, and of each split.
        labels: how the label is distributed in the training rows; at the active party.
        test: metrics of the joint model; at the active party.
        alone: the same of a model that the active party trained on its own columns, with the same rows and split.
        best_pass: the joint pass that all parties went back to; at the active party.
        best_epoch: the epoch whose model this is: the best local epoch or, without any, the best pass.
        history: mean loss and validation metrics of each epoch, as the coordinator has them; at the active party.
        attempts: how many the run took, by the coordinator's count.
        interruptions: what ended those of them that this process took part in.
        columns: what each column that was used was read as.
        left_out: why others were not used.
    """

    run: str
    job: str
    party: str
    role: str
    task: str
    rows: Mapping[str, int]
    labels: tuple[str, ...] = ()
    test: Mapping[str, float] = field(default_factory=dict)
    alone: Mapping[str, float] = field(default_factory=dict)
    best_pass: BestEpochFound | None = None
    best_epoch: BestEpochFound | None = None
    history: Sequence[Mapping[str, float]] = ()
    attempts: int = 1
    interruptions: Sequence[str] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Strict JSON."""
        return strict_json(asdict(self))

    def __str__(self) -> str:
        lines = [f"{self.run}: {self.task}, party '{self.party}' ({self.role})", ""]
        lines += [f"{f'rows, {name}':<{LABEL_WIDTH}}{count:>12,}" for name, count in self.rows.items()]
        if self.labels:
            lines += textwrap.wrap("labels of the training rows: " + ", ".join(self.labels), _WIDTH)
        if self.best_pass is not None and self.best_pass != self.best_epoch:
            lines.append(f"went back to {_in_words(self.best_pass)}")
        if self.best_epoch is not None:
            lines.append(f"kept the model of {_in_words(self.best_epoch)}")
        if self.attempts > 1:
            lines.append(f"{'attempts':<{LABEL_WIDTH}}{self.attempts:>12,}")
        for reason in self.interruptions:
            lines += textwrap.wrap(f"interrupted: {reason}", _WIDTH, subsequent_indent="  ")
        if self.test:
            lines += ["", *metric_rows(self.test, self.alone)]
        used = [f"{name} ({use})" for name, use in self.columns.items()]
        lines += ["", *textwrap.wrap("columns: " + ", ".join(used), _WIDTH, subsequent_indent="  ")]
        for name, reason in self.left_out.items():
            lines += textwrap.wrap(f"left out: {name}: {reason}", _WIDTH, subsequent_indent="  ")
        return printable_lines("\n".join(lines))


def report_of(state: PartyContext, run: str, **found: Any) -> RunReport:
    """The report of a run at this party.

    Args:
        found: what only the active party knows, by attribute of ``RunReport``.
    """
    setup, dataset, loaded = state.setup, state.dataset, state.loaded_rows
    rows = {"table": loaded.rows, "without id": loaded.dropped}
    labels: tuple[str, ...] = ()
    if dataset.labels is not None:
        rows["without label"] = loaded.unlabeled
        labels = tuple(distribution(dataset.labels[dataset.rows_of(Split.TRAIN)]))
    rows["aligned"] = len(dataset)
    understood = dataset.understood
    return RunReport(
        run,
        setup.job.name,
        setup.name,
        str(setup.entry.role),
        setup.job.task.kind,
        rows | {str(split): len(dataset.rows_of(split)) for split in Split},
        labels,
        attempts=state.attempts,
        interruptions=state.interruptions,
        columns={reading.name: reading.described for reading in understood.readings},
        left_out=understood.left_out,
        **found,
    )


def _in_words(best: BestEpochFound) -> str:
    return f"epoch {best.epoch}: {best.metric} {best.value:.4f} on the validation rows"


def report_texts(report: RunReport) -> dict[str, str]:
    """Its files, by name."""
    return {"report.json": report.to_json(), "report.txt": str(report)}
