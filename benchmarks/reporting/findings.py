"""Results of a benchmark: rows of the table, each with its target if it has one, and series for the plots."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Ratio(StrEnum):
    """How the ratio of a row compares the measured value with its reference."""

    FASTER = "x faster"
    TIMES = "x"


@dataclass(frozen=True)
class Target:
    """A bound on the ratio, or on the measured value itself if a row has no reference."""

    words: str
    bound: float

    @property
    def met_by(self) -> Any:
        """The comparison that must hold between the measured value and the bound."""
        return operator.ge if self.words == "at least" else operator.le


def at_least(bound: float) -> Target:
    """A target that is met at or above ``bound``."""
    return Target("at least", bound)


def at_most(bound: float) -> Target:
    """A target that is met at or below ``bound``."""
    return Target("at most", bound)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        section: "a" to "g", as listed in the README.
        measured: value in ``unit``.
        against: what the reference is; empty if there is none.
        reference: also in ``unit``; None if the row is compared only with its target.
        means: how the ratio is computed from ``measured`` and ``reference``.
        note: repeats, and anything extrapolated or not quite fair.
    """

    section: str
    what: str
    measured: float
    unit: str
    against: str = ""
    reference: float | None = None
    means: Ratio = Ratio.TIMES
    target: Target | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Relative to the reference, or else to the bound of the target; None without either."""
        if self.reference is not None:
            return self.reference / self.measured if self.means is Ratio.FASTER else self.measured / self.reference
        return self.measured / self.target.bound if self.target else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None if there is none."""
        if self.target is None:
            return None
        value = self.measured if self.reference is None else self.ratio
        return bool(self.target.met_by(value, self.target.bound))

    def as_json(self) -> dict[str, Any]:
        """Every attribute and the values derived from them."""
        target = f"{self.target.words} {self.target.bound:g}" if self.target else None
        fixed = {name: getattr(self, name) for name in ("section", "what", "measured", "unit", "against", "reference")}
        return {**fixed, "ratio": self.ratio, "means": self.means, "target": target, "met": self.met, "note": self.note}


@dataclass
class Findings:
    """Rows in order, what was skipped and why, and data for plots by name."""

    rows: list[Row] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    series: dict[str, Any] = field(default_factory=dict)

    def add(self, other: Findings) -> None:
        """Append the results of another benchmark."""
        self.rows += other.rows
        self.skipped += other.skipped
        self.series |= other.series
