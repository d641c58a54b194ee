"""Configuration of bottom models, the top model and the task, validated before anything is built."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

ENCODING_SCALE = 0.125
"""Standard deviation of a whitened encoding in units of alpha, whose values stay within [-1, 1]."""

DEFAULT_WIDTH = 16
"""Output width of a bottom whose width neither the job nor its kind determines."""

MAX_WIDTH = 512
"""Largest output width of a bottom."""

Width = Annotated[int, Field(ge=1, le=65536)]
"""Number of units of a layer."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class BottomInputs:
    """What a party's preprocessing passes to its bottom model.

    Attributes:
        numeric_width: number of numeric columns p; the numeric input is a float32 tensor (B, p).
        cardinalities: for each categorical column its number of codes n_j; the categorical input is an int64
            tensor (B, c) whose column j holds codes 0..n_j - 1; code 0 is unknown or missing.
        indicated: the last of the numeric columns are missing-indicators: for each, in order, the position of the
            numeric column whose missing values it marks with 1.
        names: names of the numeric columns without indicators, then of the categorical ones; empty if not known.
    """

    numeric_width: int
    cardinalities: tuple[int, ...] = ()
    indicated: tuple[int, ...] = ()
    names: tuple[str, ...] = dataclass_field(default=(), repr=False)


class MlpBottom(_Config):
    """Fully connected bottom for numeric and categorical columns; each categorical column gets an embedding.

    Attributes:
        bins: if set, the network also sees the cells of an encoding with at most so many bins, see ``EncodingsBottom``;
            with few training rows, there are fewer.
    """

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Width, ...] = (32,)
    bins: Annotated[int, Field(ge=1, le=64)] | None = None
    activation: Literal["relu", "gelu"] = "relu"
    embedding_width: Width = 4


class CnnBottom(_Config):
    """Convolutional bottom: the numeric columns, in order, are the pixels of a (channels, height, width) image."""

    kind: Literal["cnn"] = "cnn"
    shape: tuple[Width, Width, Width]
    channels: Annotated[tuple[Width, ...], Field(min_length=1)] = (8, 16)


class IdentityBottom(_Config):
    """Frozen bottom without parameters: the numeric columns times ``scale``, clamped to [-1, 1].

    With the default, standardized columns are not clamped within four standard deviations.
    """

    kind: Literal["identity"] = "identity"
    scale: float = Field(default=0.25, gt=0)


class EncodingsBottom(_Config):
    """Frozen bottom for tables: columns as cells in [0, 1], fitted to the training rows, then whitened.

    Its width follows from the table.

    Attributes:
        bins: at most this many cells for a numeric column, between quantiles of its values.
        one_hot: a categorical column of at most this many categories gets a cell for each; others are hashed.
        buckets: cells of a hashed column.
        max_width: with more cells, first the bins and then the buckets become fewer.
        whiten: decorrelate the cells and give them the same variance, except that ``ridge`` keeps small ones small.
        ridge: in units of the mean eigenvalue of the cells' covariance; if None, the number of cells per training row.
        clip: standard deviations of a whitened component that become 1; larger values are clamped.
    """

    kind: Literal["encodings"] = "encodings"
    bins: int = Field(default=8, ge=1, le=64)
    one_hot: int = Field(default=32, ge=1, le=512)
    buckets: int = Field(default=32, ge=2, le=512)
    max_width: int = Field(default=MAX_WIDTH, ge=1, le=MAX_WIDTH)
    whiten: bool = True
    ridge: float | None = Field(default=None, ge=0, le=1e3)
    clip: float = Field(default=8.0, gt=0)


class CustomBottom(_Config):
    """A party's own bottom: ``factory(inputs: BottomInputs, width: int, **options) -> torch.nn.Module``.

    The module is called as ``module(numeric)``, or as ``module(numeric, categorical)`` if the party has categorical
    columns, and returns (B, width) with every value in [-1, 1]. ``frozen`` keeps its parameters as the factory
    created them, for instance pretrained on the party's own data.
    """

    kind: Literal["custom"] = "custom"
    factory: str
    options: dict[str, Any] = Field(default_factory=dict)
    frozen: bool = False

    @field_validator("factory")
    @classmethod
    def _names_a_callable(cls, factory: str) -> str:
        if re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", factory) is None:
            raise ValueError("must be 'module:callable', such as 'my_bottoms:Tabular'")
        return factory


BottomConfig = Annotated[
    MlpBottom | CnnBottom | IdentityBottom | EncodingsBottom | CustomBottom, Field(discriminator="kind")
]
"""Any bottom model, told apart by ``kind``."""


def _even(hidden: tuple[int, ...]) -> tuple[int, ...]:
    odd = [width for width in hidden if width % 2]
    if odd:
        raise ValueError(
            f"hidden widths of the top model must be even, because its activation sorts pairs of units: "
            f"use {odd[0] + 1} instead of {odd[0]}"
        )
    return hidden


EvenWidths = Annotated[tuple[Width, ...], AfterValidator(_even)]
"""Widths of hidden layers of the top."""


class TopConfig(_Config):
    """The top model: hidden widths, and a bound on the Lipschitz constant (L2 to L2) of the map from Z to logits."""

    hidden: EvenWidths = (32, 32)
    lipschitz: float = Field(default=1.0, gt=0)


METRIC_RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("auc", "average_precision", "ks", "accuracy", "macro_auc"), (0.0, 1.0)),
    **dict.fromkeys(("log_loss", "rmse", "mae", "median_certified_radius"), (0.0, math.inf)),
    "r2": (-math.inf, 1.0),
}
"""Every metric that a task can have, with its smallest and largest value."""

ALONE = "alone_"
"""Begins the name of a metric of the model that the active party trained by itself."""


def without_alone(metrics: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of the joint model, and those of the active party's own, by their plain names.

    Both in the order of ``METRIC_RANGES``: on the way through a message it is lost.
    """
    joint = {name: metrics[name] for name in METRIC_RANGES if name in metrics}
    return joint, {name: metrics[f"{ALONE}{name}"] for name in METRIC_RANGES if f"{ALONE}{name}" in metrics}


CUT_OFF = 4.0
"""A row whose gradient of a loss without a bound is larger counts with this much: standard deviations, for a squared
error twice as many."""


class TaskConfig(_Config):
    """What is predicted.

    Attributes:
        classes: number of classes, of a multiclass task only.
        loss: of a regression only; Huber if omitted. ``poisson`` is for counts.
        class_weights: with ``balanced``, every class has the same total weight in the loss. Metrics have no weights.
    """

    kind: Literal["binary", "multiclass", "regression"]
    classes: int | None = None
    loss: Literal["huber", "mse", "poisson"] | None = None
    class_weights: Literal["balanced"] | None = None

    @property
    def class_count(self) -> int:
        """Number of classes; 0 for a regression."""
        return 2 if self.kind == "binary" else self.classes or 0

    @property
    def cuts_off(self) -> bool:
        """Whether the loss has no bound on its gradient, which is cut off where it leaves the active party."""
        return self.loss in ("mse", "poisson")

    @property
    def primary_metric(self) -> str:
        """Name of the metric that reports put first, and that epochs are compared by; higher is better."""
        return {"binary": "auc", "multiclass": "accuracy", "regression": "r2"}[self.kind]

    @property
    def gradient_bound(self) -> float:
        """Largest L2 norm of dL/dlogits of one sample, as it is used for interaction weights: see ``tasks``.

        It stands here because a passive party needs it, without the metrics that ``tasks`` imports.
        """
        if self.cuts_off:
            return CUT_OFF
        return math.sqrt(2.0) if self.kind == "multiclass" else 1.0

    @model_validator(mode="after")
    def _consistent(self) -> TaskConfig:
        if self.kind == "multiclass" and (self.classes is None or self.classes < 3):
            raise ValueError("a multiclass task needs 'classes', at least 3; for two classes use kind = 'binary'")
        if self.kind != "multiclass" and self.classes is not None:
            raise ValueError(f"'classes' does not apply to a {self.kind} task: remove it")
        if self.kind != "regression" and self.loss is not None:
            raise ValueError(f"'loss' does not apply to a {self.kind} task: remove it")
        if self.kind == "regression" and self.class_weights is not None:
            raise ValueError("'class_weights' does not apply to a regression task: remove it")
        return self
