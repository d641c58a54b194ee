"""Encodes the raw labels of the active party's table as the numbers that a loss is computed from.

An encoding is fitted only on the training part and saved with the model; it stays at the active party.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from torch import Tensor

from vfl.errors import ConfigError, DataError
from vfl.models.config import TaskConfig
from vfl.models.tasks.class_order import AS_THEY_ARE, ClassOrder, Labels, in_stated_order, shown, with_positive_second

_EXACT_INTEGERS = 2.0**53


class LabelEncoding(BaseModel, ABC):
    """How raw labels become numbers; ``ClassEncoding``, ``ScaleEncoding`` or ``CountEncoding``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @abstractmethod
    def encode(self, labels: Labels) -> Labels:
        """Raw labels (B,) to int64 classes or float32 values (B,).

        Raises:
            DataError: labels are missing, are not numeric in a regression, or did not occur in the training part.
        """

    def to_json(self) -> str:
        """The encoding as JSON text."""
        return self.model_dump_json()

    @staticmethod
    def from_json(text: str) -> LabelEncoding:
        """Read back what ``to_json`` wrote.

        Raises:
            ConfigError: the text is not an encoding.
        """
        try:
            return _ANY_ENCODING.validate_json(text)
        except ValidationError as error:
            raise ConfigError(
                "the saved label encoding cannot be read",
                detail=str(error),
                remedy="restore the file that was saved with the model, or train again",
            ) from error


def _distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or len(set(values)) < len(values):
        raise ValueError("classes must be distinct, with at least one")
    return values


class ClassEncoding(LabelEncoding):
    """Class i is the i-th of ``values``, which are distinct; in a binary task the second is the positive one."""

    kind: Literal["classes"] = "classes"
    values: Annotated[tuple[int, ...] | tuple[float, ...] | tuple[str, ...], AfterValidator(_distinct)]

    def encode(self, labels: Labels) -> Labels:
        """Raw labels (B,) to int64 class indices (B,); raises DataError on an unknown value."""
        raw = clean_labels(labels)
        values = np.asarray(self.values)
        if (raw.dtype.kind == "U") != (values.dtype.kind == "U"):
            raise _unknown(raw)
        order = np.argsort(values)
        index: npt.NDArray[np.int64] = order[np.searchsorted(values, raw, sorter=order).clip(max=len(values) - 1)]
        unknown = values[index] != raw
        if unknown.any():
            raise _unknown(raw[unknown])
        return index.astype(np.int64)


class ScaleEncoding(LabelEncoding):
    """Standardized regression labels: ``(label - mean) / std``."""

    kind: Literal["scale"] = "scale"
    mean: float
    std: float = Field(gt=0)

    def encode(self, labels: Labels) -> Labels:
        """Raw labels (B,) to float32 in units of the training part's standard deviation."""
        return ((_numeric(labels) - self.mean) / self.std).astype(np.float32)

    def decode(self, logits_B: Tensor) -> Tensor:
        """Outputs of the top (B,) to values in the labels' own unit, float64."""
        return logits_B.double() * self.std + self.mean


class CountEncoding(LabelEncoding):
    """Counts in units of the training part's mean; the top's output is the logarithm of the expected one."""

    kind: Literal["counts"] = "counts"
    mean: float = Field(gt=0)

    def encode(self, labels: Labels) -> Labels:
        """Raw labels (B,) to float32; raises DataError on negative values."""
        return (_counts(labels) / self.mean).astype(np.float32)

    def decode(self, logits_B: Tensor) -> Tensor:
        """Outputs of the top (B,) to expected counts, float64."""
        return expected(logits_B.double()) * self.mean


_LARGEST_EXPONENT = 20.0


def expected(logits: Tensor) -> Tensor:
    """exp(logits), which stays finite."""
    return logits.clamp(max=_LARGEST_EXPONENT).exp()


_ANY_ENCODING: TypeAdapter[ClassEncoding | ScaleEncoding | CountEncoding] = TypeAdapter(
    Annotated[ClassEncoding | ScaleEncoding | CountEncoding, Field(discriminator="kind")]
)


def fit_labels(config: TaskConfig, labels: Labels, order: ClassOrder = AS_THEY_ARE) -> LabelEncoding:
    """Fit the encoding of a task on the labels (B,) of the training part.

    Classes are in the order that is stated, or else sorted; labels that are already 0..classes-1 keep their numbers
    even if some do not occur in the training part. Of two words, the positive one is stated or well known.

    Raises:
        ConfigError: what is stated does not apply to the task.
        DataError: labels are missing or constant, do not fit the task, or are two words of which either may be the
            positive one.
    """
    if (order.positive is not None and config.kind != "binary") or (order.classes and config.kind != "multiclass"):
        raise ConfigError(
            f"positive_label is for binary tasks and classes for multiclass ones, and the task is {config.kind}",
            remedy="remove it from [data] of party.toml, or correct [task] of job.toml",
        )
    if config.kind == "regression":
        return _fit_counts(_counts(labels)) if config.loss == "poisson" else _fit_scale(_numeric(labels))
    raw = clean_labels(labels)
    distinct = np.unique(raw)
    if len(distinct) < 2:
        raise DataError(
            "all labels of the training part are the same",
            detail=shown(distinct),
            remedy="check the label column, or train on rows of more than one class",
        )
    if order.positive is not None or order.classes is not None:
        return ClassEncoding(values=in_stated_order(config, distinct, order))
    classes = config.class_count
    if raw.dtype.kind == "i" and distinct[0] >= 0 and distinct[-1] < classes:
        return ClassEncoding(values=tuple(range(classes)))
    if len(distinct) != classes:
        raise DataError(
            f"the training part does not have as many distinct labels as the {config.kind} task has classes",
            detail=f"{len(distinct)} distinct labels for {classes} classes: {shown(distinct)}",
            remedy="set kind and classes in [task] of job.toml to match the label column, correct the column, or, if "
            "rows of a class are rare, list all of them as classes in [data] of party.toml",
        )
    values = tuple(distinct.tolist())
    if config.kind == "binary" and raw.dtype.kind == "U":
        values = with_positive_second(*values)
    return ClassEncoding(values=values)


def clean_labels(labels: Labels) -> Labels:
    """Labels (B,) as int64 if all are whole numbers, otherwise float64 or text.

    Raises:
        DataError: a label is missing, or labels are of mixed or unsupported types.
    """
    raw = np.asarray(labels)
    if raw.dtype.kind in "OT":
        if not all(isinstance(label, str) for label in raw.tolist()):
            raise _missing("some labels are missing or of mixed types")
        raw = raw.astype(str)
    if raw.dtype.kind not in "biufU" or raw.ndim != 1:
        raise _missing(f"the label column is {raw.dtype} with {raw.ndim} dimension(s)")
    if raw.dtype.kind == "U":
        return raw
    if raw.dtype.kind != "f":
        return raw.astype(np.int64)
    if not np.isfinite(raw).all():
        raise _missing(f"{np.count_nonzero(~np.isfinite(raw))} labels are missing or infinite")
    whole = (np.trunc(raw) == raw) & (np.abs(raw) < _EXACT_INTEGERS)
    return raw.astype(np.int64 if whole.all() else np.float64)


def _numeric(labels: Labels) -> npt.NDArray[np.float64]:
    raw = clean_labels(labels)
    if raw.dtype.kind == "U":
        raise DataError(
            "the labels of a regression task are not numbers",
            detail=shown(np.unique(raw)),
            remedy="choose a numeric label column, or set [task] kind = 'binary' or 'multiclass' in job.toml",
        )
    return raw.astype(np.float64)


def _counts(labels: Labels) -> npt.NDArray[np.float64]:
    counts = _numeric(labels)
    if (counts < 0).any():
        raise DataError(
            "some labels are negative, which loss 'poisson' cannot take",
            detail=f"{np.count_nonzero(counts < 0)} of {counts.size} labels",
            remedy="choose loss = 'huber' in [task] of job.toml, or correct the label column",
        )
    return counts


def _fit_counts(counts: npt.NDArray[np.float64]) -> CountEncoding:
    if not counts.any():
        raise DataError("all labels of the training part are 0", remedy="check the label column")
    return CountEncoding(mean=float(counts.mean()))


def _fit_scale(values: npt.NDArray[np.float64]) -> ScaleEncoding:
    with np.errstate(over="ignore"):
        std = float(values.std()) if values.size else 0.0
    if not 0.0 < std < float("inf"):
        raise DataError(
            "the regression labels of the training part have no usable spread",
            detail=f"{values.size} labels with standard deviation {std:g}",
            remedy="check that the label column is the quantity to predict and is not constant",
        )
    return ScaleEncoding(mean=float(values.mean()), std=std)


def _missing(detail: str) -> DataError:
    return DataError(
        "the label column cannot be used as it is",
        detail=detail,
        remedy="give every row a label, all of one type: numbers, booleans or text",
    )


def _unknown(unknown: Labels) -> DataError:
    return DataError(
        "some labels do not occur in the training part",
        detail=shown(np.unique(unknown)),
        remedy="correct these labels, or change the split so that the training part contains every class",
    )
