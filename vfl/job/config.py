"""job.toml: what is trained. Every party has the same file; the parties compare its digest before step 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, model_validator

from vfl.configuration.federation import JobName
from vfl.configuration.toml_files import Configuration, LocalPath
from vfl.data.config import IdRules
from vfl.he.parameters import RingSettings
from vfl.job.tables import (
    LINEAR_POISSON_RATE,
    LINEAR_RATE,
    LINEAR_TOP,
    MANY_LOCAL_EPOCHS,
    RELATIVE_NOISE,
    STAGE_RATES,
    WITH_CLASSES_LIPSCHITZ,
    CheckpointPlan,
    InteractionConfig,
    ModelConfig,
    OptimizerConfig,
    PrivacyConfig,
    SplitConfig,
    StatedOptimizer,
    StatedTop,
    TimeoutConfig,
    TrainingConfig,
)
from vfl.models.config import ENCODING_SCALE, TaskConfig, TopConfig


class JobConfig(Configuration):
    """The content of job.toml."""

    renamed: ClassVar[Mapping[str, str]] = {
        "deadlines.connect": "timeouts.connect",
        "deadlines.alignment": "timeouts.alignment",
        "deadlines.phase": "timeouts.progress",
        "deadlines.silence": "timeouts.heartbeat",
        "deadlines.absence": "timeouts.reconnect",
        "checkpoints.in_memory_every_steps": "checkpoints.unsynced_every_steps",
        "training.optimiser": "training.optimizer",
        "training.epochs": "training.passes and training.local_epochs",
        'interaction.protocol = "oracle"': 'interaction.protocol = "plaintext"',
    }

    name: JobName
    federation: LocalPath = Path("federation.toml")
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    task: TaskConfig
    model: ModelConfig = ModelConfig()
    ids: IdRules = IdRules()
    training: TrainingConfig = TrainingConfig()
    interaction: InteractionConfig = InteractionConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    split: SplitConfig = SplitConfig()
    ring: RingSettings | None = None
    timeouts: TimeoutConfig = TimeoutConfig()
    checkpoints: CheckpointPlan = CheckpointPlan()

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> JobConfig:
        if self.split.validation + self.split.test >= 1:
            raise ValueError("split.validation and split.test together must leave rows to train on")
        return self

    @model_validator(mode="after")
    def _has_what_the_best_epoch_is_chosen_by(self) -> JobConfig:
        stated = [key for key in ("keep_best", "patience") if getattr(self.training, key)]
        if stated and not (self.split.validation and self._has_epochs_to_choose_from):
            raise ValueError(
                f"training.{stated[0]} chooses among epochs by the validation rows: set split.validation and, in "
                "stagewise training, training.local_epochs above 0"
            )
        if self.training.patience and self.training.keep_best is False:
            raise ValueError("training.patience needs keep_best: leave keep_best out")
        return self

    @model_validator(mode="after")
    def _is_linear_if_it_says_so(self) -> JobConfig:
        if not self.is_linear:
            return self
        if self.model.top.hidden:
            raise ValueError('model.kind "linear" has no hidden layers: leave out model.top.hidden')
        if self.model.trainable:
            raise ValueError('model.kind "linear" is for frozen bottoms: leave out model.trainable')
        return self

    @model_validator(mode="after")
    def _suits_stagewise_training(self) -> JobConfig:
        if not self.stagewise:
            return self
        if self.model.trainable:
            raise ValueError('training.method "stagewise" is for frozen bottoms: empty model.trainable, or use "joint"')
        if self.interaction.momentum:
            raise ValueError(
                "interaction.momentum is for joint training: in stagewise training it would move columns of Z that are "
                "released already; leave it out"
            )
        if self.interaction.learning_rate_decay != 1:
            raise ValueError(
                "interaction.learning_rate_decay is for joint training: in stagewise training a column of Z has one "
                "step; leave it out"
            )
        if self.interaction_width != self.passes * self.logits:
            raise ValueError(
                "stagewise training has one column of Z for each pass and logit: leave out model.interaction_width, "
                f"or set it to {self.passes * self.logits}"
            )
        return self

    @property
    def is_linear(self) -> bool:
        """Whether the logits are weighted sums of the parties' columns."""
        return self.model.kind == "linear"

    @property
    def top(self) -> TopConfig:
        """The top model, as stated or by the kind of the model and the task."""
        default = LINEAR_TOP if self.is_linear else TopConfig()
        if self.stagewise and self.logits > 1 and not self.is_linear:
            default = TopConfig(lipschitz=WITH_CLASSES_LIPSCHITZ)
        return default.model_copy(update=self.model.top.model_dump(exclude_none=True))

    @property
    def optimizer(self) -> OptimizerConfig:
        """What trains plain parameters where a party states nothing else."""
        return self.completed(self.training.optimizer)

    def completed(self, stated: StatedOptimizer) -> OptimizerConfig:
        """An optimizer as stated, or by the kind of the model."""
        default = OptimizerConfig(learning_rate=LINEAR_RATE) if self.is_linear else OptimizerConfig()
        return default.model_copy(update=stated.model_dump(exclude_none=True))

    @property
    def stagewise(self) -> bool:
        """Whether columns of Z are trained one stage after the other, see ``vfl.job.plan``."""
        method = self.training.method or ("joint" if self.model.trainable else "stagewise")
        return method == "stagewise"

    @property
    def ring_settings(self) -> RingSettings:
        """The ring as stated. Without it, stagewise training, whose steps are large, has fewer fractional bits in W, so
        that Z has more integer ones."""
        return self.ring or (RingSettings(weight_bits=35) if self.stagewise else RingSettings())

    @property
    def logits(self) -> int:
        """Width of the top's output."""
        return self.task.classes or 1

    @property
    def passes(self) -> int:
        """Passes over the training rows in which interaction weights train."""
        if self.training.passes is not None:
            return self.training.passes
        if not self.stagewise:
            return 10
        return 2 if self.task.kind == "regression" or (self.logits == 1 and not self.is_linear) else 1

    @property
    def releases_per_row(self) -> int:
        """How often a training row is released in a run."""
        return self.passes + (0 if self.stagewise or not self.local_epochs else 1)

    @property
    def interaction_width(self) -> int:
        """K, the width of Z: one column for each pass and logit; in joint training 2, or up to 8 with more classes."""
        if self.model.interaction_width is not None:
            return self.model.interaction_width
        if self.stagewise:
            return self.passes * self.logits
        return 2 if self.logits == 1 else min(8, self.logits)

    @property
    def local_epochs(self) -> int:
        """Epochs of the active party alone after the last pass."""
        if self.training.local_epochs is not None:
            return self.training.local_epochs
        if not self.stagewise:
            return 0
        return MANY_LOCAL_EPOCHS if self.is_linear or self.logits > 1 else 6

    @property
    def keeps_best(self) -> bool:
        """Whether the best pass of joint training and the best of the last local epochs are kept."""
        if self.training.keep_best is not None:
            return self.training.keep_best
        return bool(self.split.validation and self._has_epochs_to_choose_from)

    @property
    def keeps_best_pass(self) -> bool:
        """Whether all parties go back to the best pass of joint training."""
        return self.keeps_best and not self.stagewise

    @property
    def _has_epochs_to_choose_from(self) -> bool:
        """The passes of stagewise training are no alternatives to each other: each adds columns of Z."""
        return bool(self.local_epochs) or not self.stagewise

    @property
    def stage_epochs(self) -> int:
        """Epochs of the active party alone before each stage: a third of those at the end."""
        return max(1, self.local_epochs // 3)

    @property
    def relative_noise(self) -> float:
        """Noise in units of the standard deviation of each party's part of Z."""
        stated = self.privacy.relative_noise
        return RELATIVE_NOISE[self.task.kind] if stated is None else stated

    @property
    def resolved(self) -> JobConfig:
        """The same job with every default that depends on other values, or on the version of vfl, stated."""
        stated = {
            "training": {
                "method": "stagewise" if self.stagewise else "joint",
                "passes": self.passes,
                "local_epochs": self.local_epochs,
                "keep_best": self.keeps_best,
                "optimizer": StatedOptimizer.model_validate(self.optimizer.model_dump()),
            },
            "model": {
                "interaction_width": self.interaction_width,
                "top": StatedTop.model_validate(self.top.model_dump()),
            },
            "interaction": {"learning_rate": self.interaction_rate},
            "privacy": {"relative_noise": self.relative_noise},
        }
        tables = {name: getattr(self, name).model_copy(update=values) for name, values in stated.items()}
        return self.model_copy(update={**tables, "ring": self.ring_settings})

    def rate_in(self, epoch: int) -> float:
        """Learning rate of the interaction weights in an epoch, from 0; joint training begins with its passes."""
        return self.interaction_rate * self.interaction.learning_rate_decay**epoch

    @property
    def extreme_rates(self) -> tuple[float, ...]:
        """The largest and the smallest learning rate of the interaction weights: those of the first and last pass."""
        return tuple(dict.fromkeys((self.interaction_rate, self.rate_in(self.passes - 1))))

    @property
    def interaction_rate(self) -> float:
        """Learning rate of the interaction weights, in the first pass."""
        if self.interaction.learning_rate is not None:
            return self.interaction.learning_rate
        if not self.stagewise:
            return 0.5
        linear_poisson = self.is_linear and self.task.loss == "poisson"
        return (LINEAR_POISSON_RATE if linear_poisson else STAGE_RATES[self.task.kind]) / ENCODING_SCALE**2
