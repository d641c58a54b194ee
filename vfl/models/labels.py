"""Encodes the raw labels of the active party's table as the numbers that a loss is computed from.

An encoding is fitted only on the training part and saved with the model; it stays at the active party.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from vfl.errors import ConfigError, DataError
from vfl.models.config import TaskConfig

Labels = npt.NDArray[Any]
_SHOWN = 8
_EXACT_INTEGERS = 2.0**53


class LabelEncoding(BaseModel, ABC):
    """How raw labels become numbers; ``ClassEncoding`` or ``ScaleEncoding``."""

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


def _ascending(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if not values or any(low >= high for low, high in pairwise(values)):
        raise ValueError("classes must be sorted and distinct, with at least one")
    return values


class ClassEncoding(LabelEncoding):
    """Class i is the i-th of ``values``, which are sorted and distinct."""

    kind: Literal["classes"] = "classes"
    values: Annotated[tuple[int, ...] | tuple[float, ...] | tuple[str, ...], AfterValidator(_ascending)]

    def encode(self, labels: Labels) -> Labels:
        """Raw labels (B,) to int64 class indices (B,); raises DataError on an unknown value."""
        raw = clean_labels(labels)
        values = np.asarray(self.values)
        if (raw.dtype.kind == "U") != (values.dtype.kind == "U"):
            raise _unknown(raw)
        index = np.searchsorted(values, raw).clip(max=len(values) - 1)
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


_ANY_ENCODING: TypeAdapter[ClassEncoding | ScaleEncoding] = TypeAdapter(
    Annotated[ClassEncoding | ScaleEncoding, Field(discriminator="kind")]
)


def fit_labels(config: TaskConfig, labels: Labels) -> LabelEncoding:
    """Fit the encoding of a task on the labels (B,) of the training part.

    Classes are the sorted distinct labels; labels that are already 0..classes-1 keep their numbers even if
    some do not occur in the training part.

    Raises:
        DataError: labels are missing or constant, or do not fit the task.
    """
    if config.kind == "regression":
        return _fit_scale(_numeric(labels))
    raw = clean_labels(labels)
    distinct = np.unique(raw)
    if len(distinct) < 2:
        raise DataError(
            "all labels of the training part are the same",
            detail=shown(distinct),
            remedy="check the label column, or train on rows of both classes",
        )
    classes = config.class_count
    if raw.dtype.kind == "i" and distinct[0] >= 0 and distinct[-1] < classes:
        return ClassEncoding(values=tuple(range(classes)))
    if len(distinct) != classes:
        raise DataError(
            f"the training part does not have as many distinct labels as the {config.kind} task has classes",
            detail=f"{len(distinct)} distinct labels for {classes} classes: {shown(distinct)}",
            remedy="set kind and classes in [task] of job.toml to match the label column, or correct the column",
        )
    return ClassEncoding(values=tuple(distinct.tolist()))


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


def shown(distinct: Labels) -> str:
    """The first few distinct labels, for the ``detail`` of an error."""
    listed = ", ".join(str(value) for value in distinct[:_SHOWN].tolist())
    return f"distinct labels: {listed}{', ...' if len(distinct) > _SHOWN else ''}"
