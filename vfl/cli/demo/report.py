"""What the demo found out: a table for people, JSON for programs, curves as PNG."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vfl.attacks.label_inference import LabelInference
from vfl.errors import ConfigError
from vfl.party.config import PartySetup
from vfl.run_records.strict_json import strict_json

SHOWN_METRICS = 5
"""What fits a terminal of 80 columns; report.json has all."""


@dataclass(frozen=True)
class Comparison:
    """One way of training and its test metrics."""

    name: str
    metrics: dict[str, float]
    losses: list[float]


@dataclass(frozen=True)
class DemoResult:
    """Everything the report is made from.

    Attributes:
        outcome: the coordinator's JSON report.
        metric: the primary metric of the task.
        joint_default: training of the default kind, if ``joint_encrypted`` is another.
        inferred: what passive parties can infer of labels from the gradients that they receive, if they receive any.
    """

    dataset: str
    setups: list[PartySetup]
    metric: str
    outcome: dict[str, Any]
    active_only: Comparison
    joint_encrypted: Comparison
    pooled_plain: Comparison
    joint_default: Comparison | None = None
    inferred: Mapping[str, LabelInference] = field(default_factory=dict)

    @property
    def bytes_per_sample(self) -> dict[str, float]:
        """Bytes sent in training per trained sample, by sender: the active party to all, each passive one to it.

        Samples of local epochs count, too.
        """
        samples = self.outcome["trained_samples"]
        return {name: sent / samples for name, sent in self.outcome["training_bytes_sent"].items()}

    @property
    def samples_per_second(self) -> float:
        """Trained samples per second of training, everything included but set-up and evaluation."""
        return float(self.outcome["trained_samples"] / self.outcome["seconds_training"])

    def as_json(self) -> dict[str, Any]:
        """The content of report.json."""
        outcome = self.outcome
        return {
            "dataset": self.dataset,
            "task": self.setups[0].job.task.kind,
            "metric": self.metric,
            "rows": outcome["rows"],
            "party_rows": outcome["party_rows"],
            "seconds_alignment": outcome["seconds_alignment"],
            "active_only": self.active_only.metrics[self.metric],
            "joint_encrypted": self.joint_encrypted.metrics[self.metric],
            "pooled_plain": self.pooled_plain.metrics[self.metric],
            "seconds_setup": outcome["seconds_setup"],
            "seconds_training": outcome["seconds_training"],
            "steps": outcome["steps"],
            "samples_per_second": self.samples_per_second,
            "bytes_per_sample": self.bytes_per_sample,
            "certified_lipschitz": outcome["certified_lipschitz"],
            "parties": [self._party(setup) for setup in self.setups],
            "run": outcome["run"],
            "all_metrics": {c.name: _finite(c.metrics) for c in self._comparisons()},
            "labels_inferred": {
                name: {"auc": one.best, "by_chance": one.chance} for name, one in self.inferred.items()
            },
            "losses": {c.name: c.losses for c in self._comparisons()},
            "machine": {"processor": platform.machine(), "python": platform.python_version()},
        }

    def _party(self, setup: PartySetup) -> dict[str, Any]:
        return {
            "name": setup.name,
            "role": str(setup.entry.role),
            "bytes_sent_per_sample": self.bytes_per_sample[setup.name],
            "peak_memory_bytes": self.outcome["peak_memory"][setup.name],
        }

    def _comparisons(self) -> list[Comparison]:
        default = [] if self.joint_default is None else [self.joint_default]
        return [self.active_only, *default, self.joint_encrypted, self.pooled_plain]

    def show(self, console: Console) -> None:
        """Print the tables."""
        names = sorted(self.joint_encrypted.metrics, key=lambda name: (name != self.metric, name))[:SHOWN_METRICS]
        table = Table(title=f"{self.dataset}: {self.outcome['rows']} aligned rows, scored on the test rows")
        table.add_column("trained by", no_wrap=True)
        for name in names:
            table.add_column(name.replace("_", " "), justify="right", style="bold" if name == self.metric else "")
        for comparison in self._comparisons():
            values = [f"{comparison.metrics[name]:.4f}" for name in names]
            table.add_row(comparison.name, *values)
        console.print(table)
        for name, one in self.inferred.items():
            console.print(
                f"the price: {name} infers training labels from the gradients of the last pass with an AUC of"
                f" {one.best:.3f} (by chance up to {one.chance:.3f}); by default it receives none",
                style="yellow",
                soft_wrap=True,
            )
        console.print(self._measurements())

    def _measurements(self) -> Table:
        outcome = self.outcome
        table = Table(title="the encrypted run", show_header=False)
        rows = {
            **{f"{name} has": f"{rows:,} rows" for name, rows in outcome["party_rows"].items()},
            "aligned": f"{outcome['rows']:,} rows that all have, in {outcome['seconds_alignment']:.1f} s",
            "set-up": f"{outcome['seconds_setup']:.1f} s",
            "training": f"{outcome['seconds_training']:.1f} s for {outcome['steps']} steps",
            "evaluation": f"{outcome['seconds_evaluation']:.1f} s",
            "speed": f"{self.samples_per_second:,.0f} samples/s",
            **{f"{name} sends": f"{sent / 1e6:,.1f} MB" for name, sent in outcome["training_bytes_sent"].items()},
            **{f"{name} memory": f"{peak / 2**20:,.0f} MiB at most" for name, peak in outcome["peak_memory"].items()},
            "Lipschitz constant of the top": f"{outcome['certified_lipschitz']:.6f}, certified from its weights by SVD",
        }
        for name, value in rows.items():
            table.add_row(name, value)
        return table

    def write(self, folder: Path) -> list[Path]:
        """Write report.json and the curves; return the files."""
        report = folder / "report.json"
        report.write_text(strict_json(self.as_json()) + "\n", encoding="utf-8")
        return [report, self._plot(folder / "curves.png")]

    def _plot(self, path: Path) -> Path:
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ConfigError("the demo's curves need matplotlib", remedy="pip install vfl[demo]") from error
        figure = Figure(figsize=(10, 4), layout="constrained")
        loss_axes, metric_axes = figure.subplots(1, 2)
        styles = {self.active_only.name: ":", self.pooled_plain.name: "--"}
        for comparison in self._comparisons():
            style = styles.get(comparison.name, "-")
            epochs = range(1, len(comparison.losses) + 1)
            loss_axes.plot(epochs, comparison.losses, style, label=comparison.name)
        loss_axes.set(xlabel="epoch", ylabel="mean training loss", title=f"{self.dataset}: training")
        loss_axes.legend()
        names = [comparison.name.replace(", ", ",\n") for comparison in self._comparisons()]
        values = [comparison.metrics[self.metric] for comparison in self._comparisons()]
        bars = metric_axes.bar(names, values, color=[f"C{at}" for at in range(len(values))])
        metric_axes.bar_label(bars, fmt="%.4f")
        lowest = min(0.0, *values)
        metric_axes.set(ylabel=f"test {self.metric}", ylim=(lowest, 1.1), title="on rows nobody trained on")
        figure.savefig(path, dpi=120)
        return path


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN; a metric that is not defined becomes null."""
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
