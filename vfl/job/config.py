"""job.toml: what is trained. The same file at every party; its digest is agreed before step 0."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from vfl.configuration.federation import NAME_PATTERN, FederationConfig, load_federation
from vfl.configuration.toml_files import Configuration, LocalPath, load_toml
from vfl.data.config import IdRules
from vfl.errors import ConfigError, MismatchError
from vfl.he.arithmetic.updates import check_rates
from vfl.he.bounds import Workload, check_bounds, possible_training_sizes
from vfl.he.layout import LINK_MBIT
from vfl.he.parameters import Parameters, RingSettings
from vfl.models.config import TaskConfig, TopConfig

HEARTBEAT_SECONDS = 1.0
"""How often the coordinator calls every party, whatever else it does."""

Fraction = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class OptimizerConfig(Configuration):
    """How plain, local parameters are trained: bottoms, top, the active party's own interaction weights."""

    name: Literal["adam", "sgd"] = "adam"
    learning_rate: Rate = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.0


class ModelConfig(Configuration):
    """``[model]``: widths that all parties must agree on.

    Attributes:
        widths: bottom width of every party by name; 0 for an active party without features of its own.
        interaction_width: K, the width of Z.
        top: the active party's top model.
    """

    widths: dict[str, Annotated[int, Field(ge=0, le=512)]]
    interaction_width: Annotated[int, Field(ge=1, le=512)] = 16
    top: TopConfig = TopConfig()


class TrainingConfig(Configuration):
    """``[training]``. Validation rows, if any, are scored after every ``evaluate_every`` epochs."""

    epochs: Annotated[int, Field(ge=1)] = 10
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 256
    evaluation_batch_size: Annotated[int, Field(ge=1, le=65536)] = 4096
    evaluate_every: Annotated[int, Field(ge=1)] = 1
    optimizer: OptimizerConfig = OptimizerConfig()

    @property
    def largest_batch(self) -> int:
        """Rows of the largest batch that is ever computed at once."""
        return max(self.batch_size, self.evaluation_batch_size)


class InteractionConfig(Configuration):
    """``[interaction]``. ``plaintext`` computes in the clear; parties refuse it unless their policy allows it."""

    protocol: Literal["encrypted", "plaintext"] = "encrypted"
    learning_rate: Rate = 0.5
    link_mbit: Annotated[int, Field(ge=1)] = LINK_MBIT


class SplitConfig(Configuration):
    """``[split]``: shares of the aligned rows that are not trained on."""

    validation: Fraction = 0.0
    test: Fraction = 0.3


class TimeoutConfig(Configuration):
    """``[timeouts]`` in seconds.

    Attributes:
        connect: for all processes to start.
        alignment: for the whole alignment and each of its messages; millions of ids take minutes on few cores.
        progress: how long a party that answers may make no progress before its step is tried again.
        heartbeat: how long a party may not answer before it is considered gone.
        reconnect: how long the others wait for a party that is gone before they end the run; 0 ends it at once. Parties
            wait for the coordinator as long, and ``heartbeat`` longer, at least 3 s.
    """

    connect: Annotated[float, Field(gt=0)] = 120.0
    alignment: Annotated[float, Field(gt=0)] = 7200.0
    progress: Annotated[float, Field(gt=0)] = 120.0
    heartbeat: Annotated[float, Field(ge=1)] = 8.0
    reconnect: Annotated[float, Field(ge=0)] = 600.0


class CheckpointPlan(Configuration):
    """``[checkpoints]``: when all parties write down their state. A run goes back to the latest that all have.

    Attributes:
        every_steps: training steps between durable checkpoints, which survive a power cut.
        every_minutes: the same in minutes, whichever comes first.
        unsynced_every_steps: training steps between those that survive the end of a process only: what a restarted
            party costs at most.
    """

    every_steps: Annotated[int, Field(ge=1)] = 500
    every_minutes: Annotated[float, Field(gt=0)] = 5.0
    unsynced_every_steps: Annotated[int, Field(ge=1)] = 20


class JobConfig(Configuration):
    """The whole of job.toml."""

    renamed: ClassVar[Mapping[str, str]] = {
        "deadlines.connect": "timeouts.connect",
        "deadlines.alignment": "timeouts.alignment",
        "deadlines.phase": "timeouts.progress",
        "deadlines.silence": "timeouts.heartbeat",
        "deadlines.absence": "timeouts.reconnect",
        "checkpoints.in_memory_every_steps": "checkpoints.unsynced_every_steps",
        "training.optimiser": "training.optimizer",
        'interaction.protocol = "oracle"': 'interaction.protocol = "plaintext"',
    }

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
    federation: LocalPath = Path("federation.toml")
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    task: TaskConfig
    model: ModelConfig
    ids: IdRules = IdRules()
    training: TrainingConfig = TrainingConfig()
    interaction: InteractionConfig = InteractionConfig()
    split: SplitConfig = SplitConfig()
    ring: RingSettings = RingSettings()
    timeouts: TimeoutConfig = TimeoutConfig()
    checkpoints: CheckpointPlan = CheckpointPlan()

    @model_validator(mode="after")
    def _leaves_training_rows(self) -> JobConfig:
        if self.split.validation + self.split.test >= 1:
            raise ValueError("split.validation and split.test together must leave rows to train on")
        return self


def load_job(path: Path) -> JobConfig:
    """Read job.toml.

    Raises:
        ConfigError: naming the file, the key and what to do.
    """
    return load_toml(path, JobConfig)


def check_widths(job: JobConfig, federation: FederationConfig) -> None:
    """Check that ``model.widths`` names exactly the federation's parties and gives each passive one a width.

    Raises:
        ConfigError: naming the parties concerned.
    """
    widths = job.model.widths
    missing = [name for name in federation.names if name not in widths]
    unknown = [name for name in widths if name not in federation.names]
    empty = [party.name for party in federation.passives if widths.get(party.name) == 0]
    for names, what in (
        (missing, "lacks the width of"),
        (unknown, "names parties that are not in federation.toml:"),
        (empty, "gives no width to passive party"),
    ):
        if names:
            raise ConfigError(
                f"model.widths of the job {what} {', '.join(names)}",
                remedy="give model.widths one entry of at least 1 for every party; only the active party may have 0",
            )


def load_job_setup(path: Path) -> tuple[JobConfig, FederationConfig, Parameters]:
    """Read a job and its federation, and check both against each other and against the analytic bounds.

    Raises:
        ConfigError: a file is wrong, or they contradict each other.
        ParameterError: the ring is insecure or its bounds do not hold for the job's shapes.
    """
    job = load_job(path)
    federation = load_federation(job.federation)
    return job, federation, check_job(job, federation)


def check_job(job: JobConfig, federation: FederationConfig) -> Parameters:
    """Check a job and a federation against each other and against the analytic bounds; the parameters of its ring.

    Raises:
        ConfigError: they contradict each other.
        ParameterError: the ring is insecure or its bounds do not hold for the job's shapes.
    """
    check_widths(job, federation)
    parameters = Parameters.validated(job.ring)
    widths = tuple(job.model.widths[party.name] for party in federation.passives)
    training = job.training
    # The sizes of the last batches follow from the alignment, when every party checks them again.
    work = Workload.before_alignment(
        training.epochs, training.batch_size, training.evaluation_batch_size, parameters.degree
    )
    check_bounds(parameters, work, widths, job.model.interaction_width, link_mbit=job.interaction.link_mbit)
    check_rates(job.interaction.learning_rate, 0.0, possible_training_sizes(training.batch_size), parameters)
    return parameters


def job_digest(job: JobConfig, federation: FederationConfig) -> str:
    """What all parties compare before step 0: one SHA-256 per table, so that a difference can be named."""
    tables = job.model_dump(mode="json", exclude={"federation"})
    tables["federation"] = federation.model_dump(mode="json")
    return ",".join(f"{name}={_hash(value)}" for name, value in sorted(tables.items()))


def differing_tables(own: str, theirs: str) -> list[str]:
    """The tables in which two digests differ, of those that this side has: names of others are not repeated."""
    mine, other = (dict(part.partition("=")[::2] for part in digest.split(",")) for digest in (own, theirs))
    return sorted(name for name in mine if mine[name] != other.get(name))


def check_digest(own: str, theirs: str) -> None:
    """Compare two digests.

    Raises:
        MismatchError: naming the tables that differ.
    """
    if own == theirs:
        return
    shown = differing_tables(own, theirs)
    raise MismatchError(
        f"this party's job or federation file differs from the coordinator's in: {', '.join(shown) or 'its tables'}",
        remedy="give every party the same job.toml and federation.toml",
    )


def _hash(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def job_id(job: JobConfig, federation: FederationConfig) -> str:
    """What every call of a run names its job by: the job's name, and one SHA-256 over both files."""
    return f"{job.name}@{hashlib.sha256(job_digest(job, federation).encode()).hexdigest()}"
