"""What outputs give away bit for bit: by lattice reduction, and by what activations can be; without noise and with it.

Shape suffixes: B attacked rows, P columns of the passive party.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingClassifier

import vfl
from benchmarks.privacy.features import chosen_rows
from benchmarks.privacy.recording import Noise, Recording, Released, build_with, recorded
from benchmarks.privacy.runs import PASSIVE, Floats, Tables, View, make_job, make_parties
from vfl.attacks.decoding import ExactMatching, from_views, likelihoods, linked, most_probable, ranks, recover_weights
from vfl.attacks.lattice import lattice_attack
from vfl.ids import Split
from vfl.privacy.output_noise import MIN_NOISE

ROWS_PER_COLUMN = 3
"""Rows of a lattice attack for each activation."""
MATCHED_ROWS = 40
FEW_VALUES = 30
TEMPERATURES = (1.0, 2.0, 4.0, 8.0)
"""Likelihoods are flattened by these: few candidates are too sparse for sharp ones. The best counts."""


@dataclass(frozen=True)
class LatticeCase:
    """A run of joint training with as many outputs as a lattice attack can use, and the release that is attacked.

    Attributes:
        bottom: of the passive party.
        width: of the bottom; None for that of the table.
        split: whose rows' latest release is attacked.
    """

    name: str
    bottom: Mapping[str, Any]
    width: int | None
    split: Split


_MLP = {"kind": "mlp", "hidden": [16]}
CASES = (
    LatticeCase("last step of training", _MLP, 16, Split.TRAIN),
    LatticeCase("evaluation pass after training", _MLP, 16, Split.TEST),
    LatticeCase("columns themselves as activations", {"kind": "identity"}, None, Split.TRAIN),
)
OUTPUTS = 16


def lattice_case(tables: Tables, case: LatticeCase, noise: Noise, seed: int = 0) -> float:
    """Run a case and attack it: the share of the columns of alpha that is recovered."""
    active, passive = make_parties(tables, draw=seed, bottoms={PASSIVE: case.bottom})
    width = tables.passive.width - 1 if case.width is None else case.width
    changes: dict[str, Any] = {"model": {"interaction_width": OUTPUTS}, "widths": {PASSIVE: width}}
    if noise is Noise.LEAST:
        changes["privacy"] = {"z_noise": MIN_NOISE}
    job = make_job(tables, seed, training={"method": "joint", "passes": 3, "batch_size": 128}, **changes)
    with recorded() as seen, build_with(noise):
        vfl.simulate(job, active=active, passive=[passive])
    released = attacked_release(seen, case.split)
    return recovered_share(released.z_BM, released.alpha[PASSIVE])


def recovered_share(z_BK: npt.NDArray[np.int64], alpha_BD: npt.NDArray[np.int64]) -> float:
    """The share of columns that a lattice attack on some rows finds bit for bit.

    All, if it finds their lattice: whoever knows d rows of alpha then knows all others.
    """
    rows = min(len(alpha_BD), ROWS_PER_COLUMN * alpha_BD.shape[1])
    found = lattice_attack(z_BK[:rows], alpha_BD[:rows])
    return 1.0 if found.contained else found.exact_columns / found.width


def attacked_release(seen: Recording, split: Split) -> Released:
    """The latest release of many rows of a split."""
    of_split = [released for released in seen.released if released.batch.split is split]
    most = max(len(released.rows) for released in of_split)
    return [released for released in of_split if len(released.rows) == most][-1]


@dataclass
class Decoded:
    """Shares of what was recovered in a default run, by an attacker that knows all columns of some rows.

    Attributes:
        lattice: columns of alpha, by lattice reduction of all columns of Z.
        weights: W was found exactly.
        exact_rows: rows of which all columns were found bit for bit.
        own_cells: values guessed right from the attacker's own columns alone; the better method for each column.
        cells: from own columns and outputs.
        marginal_cells: by the most frequent value of each column.
        own_linked: rows whose true row among all rows of the table was guessed, from own columns alone.
        linked: from own columns and outputs.
        own_rank: median number of rows of the table that looked likelier than the true one, from own columns alone.
        rank: from own columns and outputs.
    """

    lattice: float
    weights: bool
    exact_rows: float
    own_cells: float
    cells: float
    marginal_cells: float
    own_linked: float
    linked: float
    own_rank: float
    rank: float


def decode(tables: Tables, view: View, known: int, seed: int) -> Decoded:
    """Decode the outputs of a run by what activations can be."""
    attacked, known_rows = chosen_rows(tables, len(view.own_NA), known, seed)
    weights = None
    if known > view.alpha_ND.shape[1]:
        weights = recover_weights(view.exact_NK[known_rows], view.alpha_ND[known_rows])
    exact = 0.0
    if weights is not None:
        matching = ExactMatching(encoder(view), weights, view.targets_NP[known_rows])
        some = attacked[:MATCHED_ROWS]
        found = [matching.find(row) for row in view.exact_NK[some]]
        truth = view.targets_NP[some]
        exact = float(np.mean([f is not None and bool((f == t).all()) for f, t in zip(found, truth, strict=True)]))
    log_own, log_both = _weighed(view, attacked, known_rows, known_rows)
    values, truth = view.targets_NP[known_rows], view.targets_NP[attacked]
    everything = np.concatenate([attacked, np.setdiff1d(np.arange(len(view.own_NA)), attacked)])
    link_own, link_both = _weighed(view, attacked, known_rows, everything)
    position, table = np.arange(len(attacked)), view.targets_NP[everything]
    outputs_too = np.column_stack([view.own_NA, view.z_NK])
    own, both = (
        np.maximum(_by_likelihood(log, values, truth), _by_trees(inputs, known_rows, attacked, view.targets_NP))
        for log, inputs in ((log_own, view.own_NA), (log_both, outputs_too))
    )
    return Decoded(
        recovered_share(view.exact_NK, view.alpha_ND),
        weights is not None,
        exact,
        own_cells=float(own.mean()),
        cells=max(exact, float(both.mean())),
        marginal_cells=float(_by_likelihood(np.zeros((1, len(values))), values, truth).mean()),
        own_linked=linked(link_own, position, table),
        linked=linked(link_both, position, table),
        own_rank=float(np.median(ranks(link_own, position))),
        rank=float(np.median(ranks(link_both, position))),
    )


def _weighed(view: View, attacked: Any, known: Any, candidates: Any) -> tuple[Floats, Floats]:
    """Likelihoods of candidates by own columns, and by own columns and outputs."""
    alpha = view.alpha_ND / view.alpha_units
    own, outputs = (
        from_views(values[attacked], alpha[candidates], alpha[known], values[known])
        for values in (view.own_NA, view.z_NK)
    )
    by_own = likelihoods([own])
    return by_own, by_own + likelihoods([outputs])


def _by_likelihood(log_BC: Floats, values_CP: Floats, truth_BP: Floats) -> Floats:
    """Share of the values of each column that are guessed right (P,)."""
    shares = [(most_probable(log_BC / t, values_CP) == truth_BP).mean(axis=0) for t in TEMPERATURES]
    best: Floats = np.max(shares, axis=0)
    return best


def _by_trees(inputs: Floats, known: Any, attacked: Any, targets_NP: Floats) -> Floats:
    """The same by boosted trees, for columns with few values; 0 for others."""
    shares = np.zeros(targets_NP.shape[1])
    for at, column in enumerate(targets_NP.T):
        classes, codes = np.unique(column, return_inverse=True)
        if len(classes) <= FEW_VALUES and len(np.unique(codes[known])) > 1:
            trees = HistGradientBoostingClassifier(
                max_iter=40, max_leaf_nodes=6, min_samples_leaf=10, early_stopping=False, random_state=0
            )
            found = trees.fit(inputs[known], codes[known]).predict(inputs[attacked])
            shares[at] = (found == codes[attacked]).mean()
    return shares


def encoder(view: View) -> Callable[[Floats], Floats]:
    """The passive party's bottom as a function of its columns, in units of fixed point."""
    state = view.recording.passive[PASSIVE]._state
    bottom, categories = state.bottom.bottom, state.dataset._features.categorical.shape[1]

    def encode(rows_BP: Floats) -> Floats:
        no_categories = torch.zeros(len(rows_BP), categories, dtype=torch.int64)
        alpha: Floats = bottom(torch.from_numpy(rows_BP).float(), no_categories).double().numpy() * view.alpha_units
        return alpha

    return encode
