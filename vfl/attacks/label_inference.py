"""Label inference by a passive party from what it received for each row: gradients of its activations above all.

Four scores that need no labels: the norm and the direction of a row's gradient (Li et al., "Label leakage and
protection in two-party split learning", ICLR 2022), its projection on the leading singular vector (Sun et al.,
"Label leakage and protection from forward embedding in vertical federated learning", 2022), and between the centers of
two clusters. Two more, if the party knows the labels of some rows: ridge regression, and the labels of the nearest
known rows. On a small table a useless score differs from 0.5 by chance, and the best of several differs more: compare
with the band of permuted labels.

Shape suffixes: B rows, D width of what was received, M known rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

_STARTS, _ROUNDS = 4, 20
"""Of the search for clusters."""


@dataclass(frozen=True, slots=True)
class LabelInference:
    """Area under the ROC curve of each score, from 0.5 to 1: the larger of a and 1 - a.

    Attributes:
        norm: by the norm of the gradient.
        direction: by the cosine to the gradient of the row with the largest norm.
        spectral: by the projection on the first right singular vector.
        clusters: by the projection on the line between the centers of two clusters.
        regression: by ridge regression on the known labels; 0.5 without any.
        neighbors: by the mean label of the nearest known rows; 0.5 without any.
        chance: the quantile, over permuted labels, of the best of all. Only a score above it is evidence.
    """

    norm: float
    direction: float
    spectral: float
    clusters: float
    regression: float
    neighbors: float
    chance: float

    @property
    def best(self) -> float:
        """The attacker's best score."""
        return max(self.norm, self.direction, self.spectral, self.clusters, self.regression, self.neighbors)

    @property
    def succeeds(self) -> bool:
        """Whether the best score is better than chance."""
        return self.best > self.chance


def label_inference(
    received_BD: npt.ArrayLike,
    labels_B: npt.ArrayLike,
    *,
    known: npt.ArrayLike = (),
    permutations: int = 200,
    level: float = 0.99,
    seed: int = 0,
) -> LabelInference:
    """Infer binary labels from what was received for each row.

    Args:
        received_BD: gradients, or anything else that the passive party received for each row, (B, d).
        labels_B: the true labels, 0 or 1; those of unknown rows serve for the score only. For more classes, pass one
            class against the others.
        known: rows whose labels the party knows, of both kinds. The others are scored.
        permutations: how many times the labels are permuted for the band.
        level: quantile of the band.
        seed: of the permutations and of the first clusters.

    Raises:
        ConfigError: shapes do not fit, or only one of the two labels occurs.
    """
    received, labels = np.asarray(received_BD, dtype=np.float64), np.asarray(labels_B)
    known_rows = np.asarray(known, dtype=np.int64)
    _check(received, labels)
    others = np.setdiff1d(np.arange(len(labels)), known_rows)
    _check(received[others], labels[others])
    if known_rows.size:
        _check(received[known_rows], labels[known_rows])
    positive, rng = labels.astype(bool), np.random.default_rng(seed)
    attack = _Attack(received, known_rows, others, rng)
    norm, direction, spectral, clusters, regression, neighbors = attack.scores(positive)
    by_chance = [max(attack.scores(rng.permutation(positive))) for _ in range(permutations)]
    chance = float(np.quantile(by_chance, level))
    return LabelInference(norm, direction, spectral, clusters, regression, neighbors, chance)


class _Attack:
    """All scores, ready for many labelings of the same rows."""

    def __init__(self, received_BD: Floats, known_M: Rows, others_N: Rows, rng: np.random.Generator) -> None:
        self._known, self._others = known_M, others_N
        without_labels = (_norm, _direction, _spectral, lambda values: _clusters(values, rng))
        self._ranks = [_ranks(score(received_BD)[others_N]) for score in without_labels]
        standard = (received_BD - received_BD.mean(axis=0)) / (received_BD.std(axis=0) + np.finfo(np.float64).tiny)
        self._from_known = [_ridge_map, _neighbor_map] if known_M.size else []
        self._maps = [make(standard[known_M], standard[others_N]) for make in self._from_known]

    def scores(self, positive_B: npt.NDArray[np.bool_]) -> list[float]:
        """One for each attack."""
        hidden, told = positive_B[self._others], positive_B[self._known].astype(np.float64)
        found = [_separation(ranks, hidden) for ranks in self._ranks]
        if not self._maps:
            return [*found, 0.5, 0.5]
        return found + [_separation(_ranks(matrix @ (told - told.mean())), hidden) for matrix in self._maps]


def _ridge_map(known_MD: Floats, others_ND: Floats) -> Floats:
    """(N, M): from the centered labels of known rows to the scores of others, in ridge regression."""
    gram = known_MD @ known_MD.T
    ridge = max(np.trace(gram) / len(gram), np.finfo(np.float64).tiny)
    result: Floats = others_ND @ known_MD.T @ np.linalg.inv(gram + ridge * np.eye(len(gram)))
    return result


def _neighbor_map(known_MD: Floats, others_ND: Floats) -> Floats:
    """(N, M): 1 for the nearest known rows of each other row."""
    distance = (known_MD**2).sum(axis=1) - 2.0 * others_ND @ known_MD.T
    nearest = np.argsort(distance, axis=1)[:, : max(1, round(len(known_MD) ** 0.5))]
    result: Floats = np.zeros_like(distance)
    np.put_along_axis(result, nearest, 1.0, axis=1)
    return result


def _clusters(received_BD: Floats, rng: np.random.Generator) -> Floats:
    """Projection on the line between the centers of two clusters: the best of some starts of Lloyd's algorithm."""
    best, line = np.inf, np.zeros(received_BD.shape[1])
    for _ in range(_STARTS):
        centers = received_BD[rng.choice(len(received_BD), 2, replace=False)]
        for _ in range(_ROUNDS):
            second = _nearer_to_second(received_BD, centers)
            if not 0 < second.sum() < len(second):
                break
            centers = np.stack([received_BD[~second].mean(axis=0), received_BD[second].mean(axis=0)])
        own = centers[_nearer_to_second(received_BD, centers).astype(np.int64)]
        spread = float(((received_BD - own) ** 2).sum())
        if spread < best:
            best, line = spread, centers[1] - centers[0]
    projection: Floats = received_BD @ line
    return projection


def _nearer_to_second(received_BD: Floats, centers: Floats) -> npt.NDArray[np.bool_]:
    nearer: npt.NDArray[np.bool_] = received_BD @ (centers[1] - centers[0]) > (centers**2).sum(axis=1) @ (-0.5, 0.5)
    return nearer


def _norm(gradient_BD: Floats) -> Floats:
    norms: Floats = np.linalg.norm(gradient_BD, axis=1)
    return norms


def _direction(gradient_BD: Floats) -> Floats:
    norms = _norm(gradient_BD)
    cosines: Floats = gradient_BD @ gradient_BD[norms.argmax()] / np.maximum(norms, np.finfo(np.float64).tiny)
    return cosines


def _spectral(gradient_BD: Floats) -> Floats:
    second_moment_DD = gradient_BD.T @ gradient_BD
    leading: Floats = np.linalg.eigh(second_moment_DD)[1][:, -1]
    return gradient_BD @ leading


def _ranks(score_B: Floats) -> Floats:
    """Ranks from 1, with the mean rank for ties."""
    _, inverse, counts = np.unique(score_B, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Floats = (last - (counts - 1) / 2.0)[inverse]
    return ranks


def _separation(ranks_B: Floats, positive_B: npt.NDArray[np.bool_]) -> float:
    """max(a, 1 - a) of the area under the ROC curve a, from the rank sum of Mann and Whitney."""
    positives = int(positive_B.sum())
    negatives = len(positive_B) - positives
    area = (float(ranks_B[positive_B].sum()) - positives * (positives + 1) / 2) / (positives * negatives)
    return max(area, 1.0 - area)


def _check(gradient: Floats, labels: npt.NDArray[np.generic]) -> None:
    if gradient.ndim != 2 or labels.shape != gradient.shape[:1]:
        raise ConfigError(
            "gradients and labels do not have the same rows",
            detail=f"gradients {gradient.shape}, labels {labels.shape}",
            remedy="pass what was received (rows, width) and one label per row",
        )
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise ConfigError(
            "label inference needs labels 0 and 1, and rows of both",
            remedy="for more classes, pass labels == one_class; known and other rows each need both labels",
        )
