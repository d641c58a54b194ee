"""The tables of job.toml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vfl.configuration.toml_files import Configuration
from vfl.he.layout import LINK_MBIT
from vfl.models.config import MAX_WIDTH, EvenWidths, TopConfig
from vfl.privacy.output_noise import MIN_NOISE

HEARTBEAT_SECONDS = 1.0
"""Interval at which the coordinator calls every party, in addition to its other calls."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Noise = Annotated[float, Field(ge=MIN_NOISE, le=16, allow_inf_nan=False)]

LINEAR_TOP = TopConfig(hidden=(), lipschitz=4.0)
"""The top of a linear model. On whitened columns Z is close to what the logits should be, and must not be shrunk."""

LINEAR_RATE = 0.1
"""Learning rate of a linear model's plain parameters, of which there are few."""

WITH_CLASSES_LIPSCHITZ, MANY_LOCAL_EPOCHS = 4.0, 12
"""Of a network that tells more than two classes apart. Each of its logits follows one noisy column of Z, so it takes
more from the active party's own columns; with a constant of 1, logits stay too close to each other."""

STAGE_RATES = {"binary": 12.0, "multiclass": 12.0, "regression": 4.0}
"""Learning rates of stagewise training on whitened features of variance 1: several times the inverse curvature of each
loss, since only the direction of a step matters to a top that scales Z down as it needs."""

LINEAR_POISSON_RATE = 0.5
"""The same for a linear model of counts: nothing scales Z down there, and counts grow exponentially with it."""

RELATIVE_NOISE = {"binary": 0.4, "multiclass": 0.4, "regression": 0.1}
"""Default relative noise by task: where classes are told apart, Z may be far less exact than where a value is
predicted."""


class OptimizerConfig(Configuration):
    """How plain, local parameters are trained: bottom and top models, the active party's own interaction weights."""

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: Rate = 0.005
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class StatedTop(Configuration):
    """``[model.top]``. What is left out follows from the kind of the model and the task, see ``JobConfig.top``."""

    hidden: EvenWidths | None = None
    lipschitz: Annotated[float, Field(gt=0)] | None = None


class StatedOptimizer(Configuration):
    """``[training.optimizer]``: see ``OptimizerConfig``; a learning rate that is left out follows from the model."""

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: Rate | None = None
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class ModelConfig(Configuration):
    """``[model]``: widths that all parties must agree on.

    Attributes:
        kind: ``linear`` gives every logit as a weighted sum of all parties' columns: a linear top, and encodings with
            one bin where a party states no bottom.
        widths: output width of every party's bottom model by party name; 0 for an active party without features.
        interaction_width: K, the width of Z; by default narrow, see ``JobConfig.interaction_width``.
        trainable: passive parties whose bottoms train, and which receive noisy d alpha for it; all others are frozen.
        own_units: further inputs of the top, which only the active party's own part feeds.
        top: the active party's top model.
    """

    kind: Literal["network", "linear"] = "network"
    widths: dict[str, Annotated[int, Field(ge=0, le=MAX_WIDTH)]] = Field(default_factory=dict)
    own_units: Annotated[int, Field(ge=0, le=512)] = 4
    interaction_width: Annotated[int, Field(ge=1, le=512)] | None = None
    trainable: tuple[str, ...] = ()
    top: StatedTop = StatedTop()


class TrainingConfig(Configuration):
    """``[training]``. Validation rows, if any, are scored after every ``evaluate_every`` epochs.

    Attributes:
        method: ``stagewise``, with frozen bottoms only, or ``joint``; see ``vfl.job.plan``. Stagewise where nothing in
            ``model.trainable`` needs the other.
        passes: over the training rows in which messages are exchanged and the interaction weights train.
        local_epochs: of the active party alone, on the noisy outputs that it keeps, after the last pass.
        batch_size: of joint passes and local epochs.
        evaluation_batch_size: of everything that is computed without changing a weight for each batch.
        keep_best: of the passes of joint training, keep the model of the one with the best validation metric, and the
            same of the local epochs after the last pass; by default where there are validation rows.
        patience: end these passes, and these local epochs, after so many without a better one.
    """

    method: Literal["stagewise", "joint"] | None = None
    passes: Annotated[int, Field(ge=1, le=4096)] | None = None
    local_epochs: Annotated[int, Field(ge=0)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256
    evaluation_batch_size: Annotated[int, Field(ge=1, le=65536)] = 4096
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    keep_best: bool | None = None
    patience: Annotated[int, Field(ge=1)] | None = None
    optimizer: StatedOptimizer = StatedOptimizer()

    @property
    def largest_batch(self) -> int:
        """Number of rows in the largest batch that is computed at once."""
        return max(self.batch_size, self.evaluation_batch_size)


class InteractionConfig(Configuration):
    """``[interaction]``. ``plaintext`` computes in the clear; parties refuse it unless their policy allows it.

    Attributes:
        learning_rate: of the interaction weights, per mean gradient of a batch or, in stagewise training, of a pass. By
            default 0.5 in joint training, and ``STAGE_RATES`` in units of encodings in stagewise training.
        learning_rate_decay: factor of ``learning_rate`` from one pass of joint training to the next.
        momentum: of the interaction weights; exact, on shares.
    """

    protocol: Literal["encrypted", "plaintext"] = "encrypted"
    learning_rate: Rate | None = None
    learning_rate_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    momentum: Annotated[float, Field(ge=0, le=0.95)] = 0.0
    link_mbit: Annotated[int, Field(ge=1)] = LINK_MBIT


class PrivacyConfig(Configuration):
    """``[privacy]``: standard deviation of the noise on what parties receive.

    Attributes:
        relative_noise: in units of the standard deviation of each party's part of Z, whatever it is: see
            ``vfl.party.learning.outputs.matched_noise``. By default 0.4, and 0.1 for a regression.
        z_noise: in addition, in units of Z; every passive party adds as much.
        d_alpha_noise: in units of d alpha, which only trainable passive bottoms receive.
    """

    relative_noise: Annotated[float, Field(ge=0, le=16, allow_inf_nan=False)] | None = None
    z_noise: Noise = MIN_NOISE
    d_alpha_noise: Noise = MIN_NOISE


class SplitConfig(Configuration):
    """``[split]``: fractions of the aligned rows that are not used for training, and how these rows are chosen.

    Attributes:
        by: ``random`` follows from the job's seed. ``label`` gives every class, or range of a number to be predicted,
            its share of each part; ``time`` has the earliest rows train and the latest test. Of these two, the active
            party chooses the rows and tells the others.
    """

    by: Literal["random", "label", "time"] = "random"
    validation: Fraction = 0.0
    test: Fraction = 0.3


class TimeoutConfig(Configuration):
    """``[timeouts]`` in seconds.

    Attributes:
        connect: for all processes to start.
        alignment: for the whole alignment and each of its messages; millions of ids take minutes on few cores.
        progress: how long a party that answers may make no progress before its step is retried.
        heartbeat: how long a party may fail to answer before it is considered gone.
        reconnect: how long the others wait for a party that is gone before they end the run; 0 ends it at once. Parties
            wait for the coordinator for ``reconnect`` plus ``heartbeat``, where ``heartbeat`` counts as at least 3 s.
    """

    connect: Annotated[float, Field(gt=0)] = 120.0
    alignment: Annotated[float, Field(gt=0)] = 7200.0
    progress: Annotated[float, Field(gt=0)] = 120.0
    heartbeat: Annotated[float, Field(ge=1)] = 8.0
    reconnect: Annotated[float, Field(ge=0)] = 600.0


class CheckpointPlan(Configuration):
    """``[checkpoints]``: when all parties save their state. A run resumes from the latest checkpoint that all have.

    Attributes:
        every_steps: training steps between durable checkpoints, which survive a power failure.
        every_minutes: the same in minutes, whichever comes first.
        unsynced_every_steps: training steps between checkpoints that survive only the end of a process; restarting a
            party repeats at most this many steps.
    """

    every_steps: Annotated[int, Field(ge=1)] = 500
    every_minutes: Annotated[float, Field(gt=0)] = 5.0
    unsynced_every_steps: Annotated[int, Field(ge=1)] = 20
