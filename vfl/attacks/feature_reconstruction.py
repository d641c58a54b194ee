"""Reconstruction of a passive party's columns from the interaction outputs that the active party received.

The attacker knows the passive party's columns for some rows, learns to predict them from its own columns and its views
of the output, and predicts them for other rows. What counts is the advantage: the R2 it gains over the same method on
its own columns alone. Compare Luo et al., "Feature inference attack on model predictions in vertical federated
learning", ICDE 2021.

Three methods: ridge regression; boosted trees; and boosted trees that are also given the posterior mean of the columns
under the interaction weights. The weights change from one view to the next, if training goes on between them; a
Kalman smoother over the steps estimates them from the known rows (Rauch, Tung, Striebel, "Maximum likelihood estimates
of linear dynamic systems", AIAA Journal 1965).

Shape suffixes: N rows, K outputs, V views (releases of one row), D width of the encodings, P passive columns, A own
columns, T steps. Needs scikit-learn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_RIDGE = 3.0
_FEW_ROWS = 1000
"""Up to this many known rows, the trees are kept small."""


@dataclass(frozen=True, slots=True)
class KnownWeights:
    """What the posterior mean needs: the encodings of the known rows, and the weights behind every view.

    Attributes:
        encodings_ND: alpha for every row; only those of the known rows are read.
        weights_NVDK: W behind each row's views, known or estimated; (1, V, D, K) if it is the same for all rows.
        noise: standard deviation of the noise on the views.
    """

    encodings_ND: npt.ArrayLike
    weights_NVDK: npt.ArrayLike
    noise: float


@dataclass(frozen=True, slots=True)
class Reconstruction:
    """R2 on the rows to be attacked, in the mean over the passive party's columns.

    Attributes:
        own: from the attacker's own columns alone, by method.
        attacked: from its own columns and its views, by method.
        own_P: the same for each column, by boosted trees.
        attacked_P: for each column, the better of the methods that use boosted trees.
    """

    own: dict[str, float]
    attacked: dict[str, float]
    own_P: Floats
    attacked_P: Floats

    @property
    def advantage(self) -> float:
        """The largest gain of any method over itself without the views."""
        return max(score - self.own[_baseline(method)] for method, score in self.attacked.items())

    @property
    def advantage_by_column(self) -> Floats:
        """The gain for each column: a mean hides a single column that is disclosed."""
        return self.attacked_P - self.own_P


def reconstruct_features(
    views_NVK: npt.ArrayLike,
    own_NA: npt.ArrayLike,
    targets_NP: npt.ArrayLike,
    known: npt.ArrayLike,
    attacked: npt.ArrayLike,
    *,
    weights: KnownWeights | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Attack the rows ``attacked`` with the knowledge of the rows ``known``.

    Args:
        views_NVK: every output that was released for each row, (N, V, K).
        own_NA: the attacker's columns, the labels among them, (N, A).
        targets_NP: the passive party's columns, (N, P); those of attacked rows serve for the score only.
        known: indices of the rows whose passive columns the attacker knows.
        attacked: indices of other rows.
        weights: for the posterior mean, which is left out without it.
        seed: of the trees.

    Raises:
        ConfigError: shapes do not fit, or scikit-learn is missing.
    """
    views, own, targets = (np.asarray(array, dtype=np.float64) for array in (views_NVK, own_NA, targets_NP))
    known_rows, attacked_rows = np.asarray(known, dtype=np.int64), np.asarray(attacked, dtype=np.int64)
    _check(views, own, targets, known_rows, attacked_rows)
    everything = np.concatenate([own, views.reshape(len(views), -1)], axis=1)

    def scores(method: Any, inputs: Floats) -> Floats:
        predicted = method(inputs[known_rows], targets[known_rows], inputs[attacked_rows])
        return _r2(predicted, targets[attacked_rows])

    def trees(inputs: Floats, outputs: Floats, others: Floats) -> Floats:
        return _boosted_trees(inputs, outputs, others, seed)

    own_ridge, own_trees = scores(_ridge, own), scores(trees, own)
    by_method = {"ridge": scores(_ridge, everything), "trees": scores(trees, everything)}
    if weights is not None:
        posterior_NP = posterior_mean(views, own, targets, known_rows, weights)
        by_method["posterior"] = scores(trees, np.concatenate([everything, posterior_NP], axis=1))
    with_trees = [score for method, score in by_method.items() if method != "ridge"]
    return Reconstruction(
        own={"ridge": float(own_ridge.mean()), "trees": float(own_trees.mean())},
        attacked={method: float(score.mean()) for method, score in by_method.items()},
        own_P=own_trees,
        attacked_P=np.max(with_trees, axis=0),
    )


def posterior_mean(views_NVK: Floats, own_NA: Floats, targets_NP: Floats, known: Rows, weights: KnownWeights) -> Floats:
    """Expected passive columns given the attacker's columns and views, all taken as jointly Gaussian: (N, P)."""
    rows, views, outputs = views_NVK.shape
    encodings = np.asarray(weights.encodings_ND, dtype=np.float64)
    width = encodings.shape[1]
    weights_NDV = np.moveaxis(np.asarray(weights.weights_NVDK, dtype=np.float64), 1, 2).reshape(
        -1, width, views * outputs
    )
    hidden = np.concatenate([encodings[known], targets_NP[known]], axis=1)
    mean = _ridge(own_NA[known], hidden, own_NA)
    residual = hidden - mean[known]
    covariance = residual.T @ residual / len(known)
    encoded, crossed = covariance[:width, :width], covariance[width:, :width]
    noise = weights.noise**2 * np.eye(views * outputs)
    seen = np.swapaxes(weights_NDV, 1, 2) @ encoded @ weights_NDV + noise + 1e-12 * np.eye(views * outputs)
    surprise_NV = views_NVK.reshape(rows, -1) - np.einsum(
        "nd,ndv->nv", mean[:, :width], np.broadcast_to(weights_NDV, (rows, *weights_NDV.shape[1:]))
    )
    gain_NPV = np.swapaxes(np.linalg.solve(seen, np.swapaxes(crossed @ weights_NDV, 1, 2)), 1, 2)
    correction: Floats = np.einsum("npv,nv->np", np.broadcast_to(gain_NPV, (rows, *gain_NPV.shape[1:])), surprise_NV)
    return mean[:, width:] + correction


def smooth_weights(
    views_MK: npt.ArrayLike,
    encodings_MD: npt.ArrayLike,
    steps_M: npt.ArrayLike,
    *,
    noise: float,
    drift: float,
    prior: float,
) -> Floats:
    """Estimate the weights at every step from known rows: a Kalman smoother for a random walk of W.

    For a single step this is ridge regression of the views on the encodings.

    Args:
        views_MK: the known rows' views in any order, (M, K).
        encodings_MD: alpha of the same rows, (M, D).
        steps_M: the step at which each was released, from 0.
        noise: standard deviation of the noise on a view.
        drift: standard deviation of the change of each weight from one step to the next.
        prior: standard deviation of each weight before the first step, whose mean is 0.

    Returns:
        (T, D, K), with T one more than the last step.
    """
    views, encodings = np.asarray(views_MK, dtype=np.float64), np.asarray(encodings_MD, dtype=np.float64)
    steps = np.asarray(steps_M, dtype=np.int64)
    width, outputs, count = encodings.shape[1], views.shape[1], int(steps.max()) + 1
    mean, covariance = np.zeros((width, outputs)), prior**2 * np.eye(width)
    means, covariances = np.zeros((count, width, outputs)), np.zeros((count, width, width))
    for step in range(count):
        if step:
            covariance = covariance + drift**2 * np.eye(width)
        seen = steps == step
        if seen.any():
            alpha = encodings[seen]
            innovation = alpha @ covariance @ alpha.T + noise**2 * np.eye(int(seen.sum()))
            gain = np.linalg.solve(innovation, alpha @ covariance).T
            mean = mean + gain @ (views[seen] - alpha @ mean)
            covariance = covariance - gain @ alpha @ covariance
        means[step], covariances[step] = mean, covariance
    for step in range(count - 2, -1, -1):
        predicted = covariances[step] + drift**2 * np.eye(width)
        backward = np.linalg.solve(predicted, covariances[step]).T
        means[step] += backward @ (means[step + 1] - means[step])
    return means


def _ridge(inputs: Floats, outputs: Floats, others: Floats) -> Floats:
    """Ridge regression on standardized inputs, in closed form: (others, P)."""
    center, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-9
    standard = (inputs - center) / scale
    moment = standard.T @ standard + _RIDGE * np.eye(inputs.shape[1])
    mean = outputs.mean(axis=0)
    predicted: Floats = mean + (others - center) / scale @ np.linalg.solve(moment, standard.T @ (outputs - mean))
    return predicted


def _boosted_trees(inputs: Floats, outputs: Floats, others: Floats, seed: int) -> Floats:
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError as error:
        raise ConfigError(
            "the reconstruction attack needs scikit-learn", remedy="install it: pip install scikit-learn"
        ) from error
    few = len(inputs) <= _FEW_ROWS
    size = {"max_iter": 80, "max_leaf_nodes": 8} if few else {"max_iter": 250, "max_leaf_nodes": 15}
    columns = []
    for column in outputs.T:
        model = HistGradientBoostingRegressor(
            learning_rate=0.05, min_samples_leaf=15, l2_regularization=1.0, random_state=seed, **size
        )
        columns.append(model.fit(inputs, column).predict(others))
    return np.stack(columns, axis=1)


def _r2(predicted_NP: Floats, targets_NP: Floats) -> Floats:
    """R2 of each column; 0 for a constant one."""
    spread = ((targets_NP - targets_NP.mean(axis=0)) ** 2).mean(axis=0)
    error = ((targets_NP - predicted_NP) ** 2).mean(axis=0)
    score: Floats = np.where(spread > 0, 1.0 - error / np.where(spread > 0, spread, 1.0), 0.0)
    return score


def _baseline(method: str) -> str:
    return "ridge" if method == "ridge" else "trees"


def _check(views: Floats, own: Floats, targets: Floats, known: Rows, attacked: Rows) -> None:
    if views.ndim != 3 or own.ndim != 2 or targets.ndim != 2 or not len(views) == len(own) == len(targets):
        raise ConfigError(
            "views, own columns and targets do not have the same rows",
            detail=f"views {views.shape}, own columns {own.shape}, targets {targets.shape}",
            remedy="pass views (rows, releases, outputs), own columns (rows, columns) and targets (rows, columns)",
        )
    if np.intersect1d(known, attacked).size:
        raise ConfigError(
            "known rows are among the attacked rows",
            remedy="score the attack on rows whose columns the attacker does not know",
        )
