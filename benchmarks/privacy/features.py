"""How much better the active party reconstructs the passive party's columns with its outputs than without."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.privacy.runs import Tables, View
from vfl.attacks.feature_reconstruction import KnownWeights, Reconstruction, reconstruct_features


def reconstruction(tables: Tables, views: Sequence[View], known: int, seed: int) -> Reconstruction:
    """Attack the outputs of all these runs over the same rows together, with the true weights of each."""
    first, count = views[0], len(views)
    attacked, known_rows = chosen_rows(tables, len(first.own_NA), known, seed)
    scales = np.stack([view.z_NK.std(axis=0) for view in views])
    views_NVK = np.stack([view.z_NK for view in views], axis=1) / scales
    # Every run has encodings of its own, fitted to its training rows.
    encodings_ND = np.concatenate([view.alpha_ND / view.alpha_units for view in views], axis=1)
    outputs = first.weights_DK.shape[1]
    weights_VDK = np.zeros((count, encodings_ND.shape[1], outputs))
    start = 0
    for at, view in enumerate(views):
        stop = start + len(view.weights_DK)
        weights_VDK[at, start:stop] = view.weights_DK * (view.alpha_units / view.units) / scales[at]
        start = stop
    noise = float(np.mean([view.noise().std(axis=0) / scale for view, scale in zip(views, scales, strict=True)]))
    return reconstruct_features(
        views_NVK,
        first.own_NA,
        first.targets_NP,
        known_rows,
        attacked,
        weights=KnownWeights(encodings_ND, weights_VDK[None], max(noise, 1e-6)),
        seed=seed,
    )


def chosen_rows(tables: Tables, rows: int, known: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are attacked, the same for any number of known rows, and rows whose columns the attacker knows."""
    order = np.random.default_rng(seed).permutation(rows)
    return order[: tables.attacked], order[tables.attacked :][:known]
