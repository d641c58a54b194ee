"""(d) How the cost of an encrypted step grows with batch, widths and number of passive parties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.arithmetic.layers import ACTIVE, EncryptedLayer, StepLog
from benchmarks.effort import Effort, Shape
from benchmarks.reporting.findings import Findings, Row, at_most


@dataclass(frozen=True)
class Growth:
    """Cost along one axis."""

    axis: str
    values: Sequence[int]
    costs: list[float]
    unit: str

    @property
    def exponent(self) -> float:
        """Slope of the least-squares line through the logarithms."""
        slope, _ = np.polyfit(np.log(self.values), np.log(self.costs), 1)
        return float(slope)

    @property
    def series(self) -> dict[str, object]:
        """Data for the plot."""
        return {"values": list(self.values), "costs": self.costs, "unit": self.unit, "exponent": self.exponent}

    def row(self, what: str) -> Row:
        """The exponent, with the first and last cost."""
        first, last = self.costs[0], self.costs[-1]
        note = f"{self.values[0]} to {self.values[-1]}: {first:.3g} to {last:.3g} {self.unit}, {len(self.costs)} points"
        return Row("d", f"{what}: exponent over {self.axis}", self.exponent, "", note=note)


def run(effort: Effort) -> Findings:
    """Everything of section (d)."""
    sweeps = effort.sweeps
    base = sweeps.base
    grown: list[Growth] = []
    for axis, values, shaped in (
        ("batch", sweeps.rows, lambda n: replace(base, rows=n)),
        ("d", sweeps.widths, lambda n: replace(base, width=n)),
        ("K", sweeps.out_widths, lambda n: replace(base, out_width=n)),
    ):
        grown.append(_seconds(axis, values, shaped, sweeps.repeats))
    findings = Findings([growth.row(f"encrypted step around {base}") for growth in grown])
    parties, rows = _parties(sweeps.passive, base, sweeps.repeats)
    findings.rows += rows
    findings.series["scaling"] = {growth.axis: growth.series for growth in (*grown, *parties)}
    return findings


def _seconds(axis: str, values: Sequence[int], shaped: Callable[[int], Shape], repeats: int) -> Growth:
    costs = [EncryptedLayer(shaped(value)).fastest_step(repeats).seconds() for value in values]
    return Growth(axis, values, costs, "s per step")


def _parties(counts: Sequence[int], shape: Shape, repeats: int) -> tuple[list[Growth], list[Row]]:
    logs = [EncryptedLayer(shape, passive=count).fastest_step(repeats) for count in counts]
    active = Growth(
        "passive parties (active)", counts, [log.seconds(party=ACTIVE) for log in logs], "s per step"
    )  # fmt: skip
    whole = Growth("passive parties (all)", counts, [log.seconds() for log in logs], "s per step")
    what = f"encrypted step, {shape}"
    rows = [active.row(what), whole.row(what), *_party_rows(counts, logs, shape)]
    return [active, whole], rows


def _party_rows(counts: Sequence[int], logs: Sequence[StepLog], shape: Shape) -> list[Row]:
    """The largest number of parties compared with the smallest."""
    few, many = logs[0], logs[-1]
    times = counts[-1] / counts[0]
    words = f"{counts[-1]} passive parties, {shape}"
    return [
        Row("d", f"cost of the active party with {words}", many.seconds(party=ACTIVE) * 1e3, "ms/step",
            f"with {counts[0]}", few.seconds(party=ACTIVE) * 1e3, target=at_most(times),
            note="at most linear growth"),
        Row("d", f"encryption of the gradient with {words}", float(many.messages("B1")), "messages/step",
            f"with {counts[0]}", float(few.messages("B1")), target=at_most(1),
            note="the same ciphertexts go to all; their arithmetic is in the next row"),
        Row("d", f"arithmetic of encrypting the gradient with {words}", many.seconds("B1", ACTIVE) * 1e3, "ms/step",
            f"with {counts[0]}", few.seconds("B1", ACTIVE) * 1e3,
            target=at_most(1.15), note="paid once, regardless of the number of parties"),
        Row("d", f"size of the encrypted gradient with {words}", many.sent("B1") / counts[-1] / 1e3, "KB/receiver",
            f"with {counts[0]}", few.sent("B1") / counts[0] / 1e3),
    ]  # fmt: skip
