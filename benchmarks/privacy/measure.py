"""All measurements of one table of data, row by row."""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable, Iterator
from dataclasses import asdict, dataclass

from benchmarks.privacy.exact import CASES, decode, lattice_case
from benchmarks.privacy.features import reconstruction
from benchmarks.privacy.labels import received_in_default_run, received_with_trainable_bottom
from benchmarks.privacy.recording import Noise
from benchmarks.privacy.runs import Tables, View, in_the_clear, run_once
from benchmarks.privacy.table import Row, row

Values = list[tuple[Hashable, float]]


@dataclass(frozen=True)
class Effort:
    """How often everything is measured.

    Attributes:
        splits: job seeds, which decide on the split and on initial weights.
        draws: of noise for each.
        runs: up to how many runs over the same rows are attacked together, in powers of two.
    """

    splits: int = 5
    draws: int = 3
    runs: int = 8


class Measured:
    """Values by what they are."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._values: dict[str, Values] = {}

    def add(self, what: str, group: Hashable, value: float) -> None:
        """One more value."""
        self._values.setdefault(what, []).append((group, float(value)))
        print(
            f"{time.strftime('%H:%M:%S')} {self._tables.name} {group}: {what} {value:.4f}", file=sys.stderr, flush=True
        )

    def rows(self) -> list[Row]:
        """One for each kind of value, in the order in which they came."""
        return [row(self._tables.name, what, values) for what, values in self._values.items()]


def measure(tables: Tables, effort: Effort, *, thorough: bool) -> list[Row]:
    """Everything about one table.

    Args:
        thorough: with repeated runs, labels and exact recovery, too.
    """
    found = Measured(tables)
    views: dict[tuple[int, int], View] = {}
    for split in range(effort.splits):
        for draw in range(effort.draws):
            view = run_once(tables, split, draw)
            _add_run(found, tables, view, split)
            if thorough and draw == 0:
                _add_decoded(found, tables, view, split, Noise.DEFAULT)
            # Roles hold a whole party each.
            del view.recording
            views[split, draw] = view
        _add_references(found, tables, split, thorough=thorough)
    if thorough:
        _add_repeated(found, tables, views, effort)
        _add_labels(found, tables, effort.splits)
    return found.rows()


def _add_run(found: Measured, tables: Tables, view: View, split: int) -> None:
    found.add(f"test {tables.metric}", split, view.test[tables.metric])
    found.add("seconds of a run, in the clear", split, view.seconds)
    for known in tables.known:
        attack = reconstruction(tables, [view], known, seed=split)
        found.add(f"advantage, {known} known rows", split, attack.advantage)
        found.add(f"advantage on the most exposed column, {known} known rows", split, attack.advantage_by_column.max())
        found.add(f"R2 of the active party's own columns, {known} known rows", split, max(attack.own.values()))


def _add_references(found: Measured, tables: Tables, split: int, *, thorough: bool) -> None:
    exact = run_once(tables, split, 0, Noise.NONE)
    found.add(f"test {tables.metric} without noise", split, exact.test[tables.metric])
    found.add(f"test {tables.metric} of the active party alone", split, in_the_clear(tables, split, alone=True))
    found.add(f"test {tables.metric} of pooled columns in the clear", split, in_the_clear(tables, split, alone=False))
    known = tables.known[-1]
    attack = reconstruction(tables, [exact], known, seed=split)
    found.add(f"advantage without noise, {known} known rows", split, attack.advantage)
    if thorough:
        _add_decoded(found, tables, exact, split, Noise.NONE)
        _add_decoded(found, tables, run_once(tables, split, 0, Noise.LEAST), split, Noise.LEAST)


def _add_decoded(found: Measured, tables: Tables, view: View, split: int, build: Noise) -> None:
    decoded = decode(tables, view, tables.known[0], seed=split)
    for what, value in asdict(decoded).items():
        found.add(f"decoding, {build}, {tables.known[0]} known rows: {_WORDS[what]}", split, value)


_WORDS = {
    "lattice": "columns by lattice",
    "weights": "W found exactly",
    "exact_rows": "rows found bit for bit",
    "own_cells": "values guessed from own columns",
    "cells": "values guessed with outputs, too",
    "marginal_cells": "values guessed by frequency",
    "own_linked": "rows linked by own columns",
    "linked": "rows linked with outputs, too",
    "own_rank": "rank of the true row by own columns",
    "rank": "rank of the true row with outputs, too",
}


def _add_repeated(found: Measured, tables: Tables, views: dict[tuple[int, int], View], effort: Effort) -> None:
    """The same rows in jobs with other seeds: other splits, weights and noise."""
    known = tables.known[-1]
    for draw in range(effort.draws):
        together: list[View] = []
        for seed in range(effort.runs):
            view = views.get((seed, draw)) or run_once(tables, seed, draw)
            view.__dict__.pop("recording", None)
            together.append(view)
            if seed + 1 in _powers(effort.runs):
                attack = reconstruction(tables, together, known, seed=0)
                found.add(f"advantage after {seed + 1} runs, {known} known rows", draw, attack.advantage)


def _powers(largest: int) -> Iterator[int]:
    number = 1
    while number <= largest:
        yield number
        number *= 2


def _add_labels(found: Measured, tables: Tables, splits: int) -> None:
    for split in range(splits):
        for build, attack in (
            ("default run", received_in_default_run),
            ("with a trainable bottom", received_with_trainable_bottom),
        ):
            inferred = attack(tables, split)
            found.add(f"labels at the passive party, {build}: AUC of the best attack", split, inferred.best)
            found.add(f"labels at the passive party, {build}: 99 % of permuted labels", split, inferred.chance)


def lattice_rows(tables: Tables) -> list[Row]:
    """Joint training with wide outputs, attacked by lattice reduction."""
    found = Measured(tables)
    for case in CASES:
        for build in (Noise.NONE, Noise.LEAST, Noise.DEFAULT):
            share = lattice_case(tables, case, build)
            found.add(f"columns recovered by lattice, {case.name}, {build}", 0, share)
    return found.rows()
