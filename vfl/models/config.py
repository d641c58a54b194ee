"""Configuration of bottom models, the top model and the task, validated before anything is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Width = Annotated[int, Field(ge=1, le=65536)]
"""Number of units of a layer."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class BottomInputs:
    """What a party's preprocessing passes to its bottom model.

    Attributes:
        numeric_width: number of numeric columns, p; the numeric input is a float32 tensor (B, p).
        cardinalities: number of codes n_j of each categorical column j; the categorical input is an int64 tensor
            (B, c) whose column j contains codes 0..n_j - 1.
    """

    numeric_width: int
    cardinalities: tuple[int, ...] = ()


class MlpBottom(_Config):
    """Fully connected bottom for numeric and categorical columns; each categorical column gets an embedding."""

    kind: Literal["mlp"] = "mlp"
    hidden: tuple[Width, ...] = (32,)
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


class CustomBottom(_Config):
    """A party's own bottom: ``factory(inputs: BottomInputs, width: int, **options) -> torch.nn.Module``.

    The module is called as ``module(numeric)``, or as ``module(numeric, categorical)`` if the party has categorical
    columns, and returns (B, width) with every value in [-1, 1]. ``frozen`` keeps its parameters as the factory
    created them, for instance pretrained on the party's own data.
    """

    kind: Literal["custom"] = "custom"
    factory: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")
    options: dict[str, Any] = Field(default_factory=dict)
    frozen: bool = False


BottomConfig = Annotated[MlpBottom | CnnBottom | IdentityBottom | CustomBottom, Field(discriminator="kind")]
"""Any bottom model; ``kind`` selects which."""


class TopConfig(_Config):
    """The top model: hidden widths, and a bound on the Lipschitz constant (L2 to L2) of the map from Z to logits."""

    hidden: tuple[Width, ...] = (32, 32)
    lipschitz: float = Field(default=1.0, gt=0)

    @field_validator("hidden")
    @classmethod
    def _even(cls, hidden: tuple[int, ...]) -> tuple[int, ...]:
        odd = [width for width in hidden if width % 2]
        if odd:
            raise ValueError(
                f"hidden widths of the top model must be even, because its activation sorts pairs of units: "
                f"use {odd[0] + 1} instead of {odd[0]}"
            )
        return hidden


class TaskConfig(_Config):
    """What is predicted. ``classes`` applies only to multiclass, ``loss`` only to regression (Huber if omitted)."""

    kind: Literal["binary", "multiclass", "regression"]
    classes: int | None = None
    loss: Literal["huber", "mse"] | None = None

    @property
    def class_count(self) -> int:
        """Number of classes; 0 for a regression."""
        return 2 if self.kind == "binary" else self.classes or 0

    @model_validator(mode="after")
    def _consistent(self) -> TaskConfig:
        if self.kind == "multiclass" and (self.classes is None or self.classes < 3):
            raise ValueError("a multiclass task needs 'classes', at least 3; for two classes use kind = 'binary'")
        if self.kind != "multiclass" and self.classes is not None:
            raise ValueError(f"'classes' does not apply to a {self.kind} task: remove it")
        if self.kind != "regression" and self.loss is not None:
            raise ValueError(f"'loss' does not apply to a {self.kind} task: remove it")
        return self
