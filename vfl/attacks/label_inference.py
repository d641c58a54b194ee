"""Label inference by a passive party from the gradients of its activations.

Three scores that need no labels: the norm and the direction of a row's gradient (Li et al., "Label leakage and
protection in two-party split learning", ICLR 2022), and its projection on the leading singular vector (Sun et al.,
"Label leakage and protection from forward embedding in vertical federated learning", 2022). On a small table a useless
score differs from 0.5 by chance, and the best of three differs more: compare with the band of permuted labels.

Shape suffixes: B rows, D width of the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vfl.errors import ConfigError

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LabelInference:
    """Area under the ROC curve of each score, from 0.5 to 1: the larger of a and 1 - a.

    Attributes:
        norm: by the norm of the gradient.
        direction: by the cosine to the gradient of the row with the largest norm.
        spectral: by the projection on the first right singular vector.
        chance: the quantile, over permuted labels, of the best of the three. Only a score above it is evidence.
    """

    norm: float
    direction: float
    spectral: float
    chance: float

    @property
    def best(self) -> float:
        """The attacker's best score."""
        return max(self.norm, self.direction, self.spectral)

    @property
    def succeeds(self) -> bool:
        """Whether the best score is better than chance."""
        return self.best > self.chance


def label_inference(
    gradient_BD: npt.ArrayLike, labels_B: npt.ArrayLike, *, permutations: int = 200, level: float = 0.99, seed: int = 0
) -> LabelInference:
    """Infer binary labels from per-row gradients.

    Args:
        gradient_BD: what the passive party received for each row, (B, d).
        labels_B: the true labels, 0 or 1; they serve for the score only. For more classes, pass one class against
            the others.
        permutations: how many times the labels are permuted for the band.
        level: quantile of the band.
        seed: of the permutations.

    Raises:
        ConfigError: shapes do not fit, or only one of the two labels occurs.
    """
    gradient, labels = np.asarray(gradient_BD, dtype=np.float64), np.asarray(labels_B)
    _check(gradient, labels)
    positive = labels.astype(bool)
    ranks = [_ranks(score) for score in (_norm(gradient), _direction(gradient), _spectral(gradient))]
    rng = np.random.default_rng(seed)
    shuffled = [rng.permutation(positive) for _ in range(permutations)]
    best_by_chance = [max(_separation(rank, other) for rank in ranks) for other in shuffled]
    norm, direction, spectral = (_separation(rank, positive) for rank in ranks)
    return LabelInference(norm, direction, spectral, chance=float(np.quantile(best_by_chance, level)))


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
            remedy="pass gradients (rows, width) and one label per row",
        )
    if set(np.unique(labels).tolist()) != {0, 1}:
        raise ConfigError(
            "label inference needs labels 0 and 1, and rows of both",
            remedy="for more classes, pass labels == one_class; a single class has nothing to infer",
        )
