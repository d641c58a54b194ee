"""party.toml: one party's own settings, which no other party sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import polars as pl
from pydantic import ConfigDict, Field

from vfl.audit.trail import AuditConfig
from vfl.checkpoints.config import CheckpointConfig
from vfl.configuration.federation import FederationConfig, Name, PartyEntry, TlsFiles
from vfl.configuration.toml_files import Configuration, LocalPath, load_toml
from vfl.data.config import DataConfig
from vfl.data.table import Table, load_table
from vfl.errors import ConfigError
from vfl.he.parameters import Parameters
from vfl.ids import Role
from vfl.job.acceptance import Accepted
from vfl.job.config import JobConfig
from vfl.job.policy import PolicyConfig
from vfl.job.setup import load_job_setup
from vfl.job.tables import OptimizerConfig, StatedOptimizer
from vfl.models.config import BottomConfig, EncodingsBottom, MlpBottom
from vfl.party.private_seed import load_private_seed
from vfl.pki.credentials import Credentials, load_credentials
from vfl.pki.newest_lists import FILE_NAME, NewestLists
from vfl.privacy.ledger.ledger import DisclosureLedger
from vfl.run_records.store import PartyRunsConfig


class PrivacyConfig(Configuration):
    """``[privacy]`` of party.toml.

    Attributes:
        ledger: SQLite file, on a local disk, that counts how often each row was released; created on first use. One
            party has one ledger, which all its jobs share.
    """

    # Also as a default inside another file's model, the path is made relative to that file.
    model_config = ConfigDict(revalidate_instances="always")

    ledger: LocalPath = Path("ledger.sqlite")


class PartyConfig(Configuration):
    """The whole of party.toml.

    Attributes:
        name: which party of the federation this is.
        accept: what may differ in a job that the coordinator offers; by default nothing. The policy applies as well.
        private_seed: file with this party's own training seed, created on first use; keeps initial weights private.
        output: directory for this party's parts of the trained model.
        audit: where this party logs everything it sends and receives.
        checkpoints: where this party keeps its part of the state of unfinished runs.
        privacy: where this party counts what it has released.
        runs: where this party records the runs that it took part in.
        threads: CPU threads for arithmetic on ciphertexts; all cores by default.
        model_threads: CPU threads for this party's models; small ones gain nothing from more than one.
        optimizer: overrides the job's optimizer for this party's own parameters.
        train_alone: whether the active party also trains a model on its own columns, after the joint one, to compare
            the two; its metrics are published like those of the joint model.
    """

    renamed: ClassVar[Mapping[str, str]] = {
        "optimiser": "optimizer",
        "policy.max_epochs": "policy.max_passes",
    }

    name: Name
    job: LocalPath
    data: DataConfig
    bottom: BottomConfig | None = None
    policy: PolicyConfig = PolicyConfig()
    accept: Accepted = Field(default_factory=dict)
    tls: TlsFiles | None = None
    private_seed: LocalPath = Path("private_seed")
    output: LocalPath = Path("models")
    audit: AuditConfig = AuditConfig()
    checkpoints: CheckpointConfig = CheckpointConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    runs: PartyRunsConfig = PartyRunsConfig()
    device: str = "cpu"
    threads: Annotated[int, Field(ge=1)] | None = None
    model_threads: Annotated[int, Field(ge=1)] = 1
    pool_memory_mb: Annotated[int, Field(ge=0)] = 128
    optimizer: StatedOptimizer | None = None
    train_alone: bool = True

    @property
    def ledger_anchor(self) -> Path:
        """File beside the private seed that says in which state the ledger must be."""
        return self.private_seed.with_name("ledger_anchor")

    @property
    def newest_lists(self) -> Path:
        """File beside the private seed that says which revocation lists were in force."""
        return self.private_seed.with_name(FILE_NAME)

    def open_ledger(self) -> DisclosureLedger:
        """This party's disclosure ledger, created on first use.

        Raises:
            LedgerError: it cannot be used, or was copied, reset or put back from a copy.
        """
        return DisclosureLedger.open(self.privacy.ledger, self.ledger_anchor)


@dataclass(frozen=True, eq=False, repr=False)
class GivenInPython:
    """Objects that a program passes in place of what the party's file names.

    Attributes:
        frame: the table.
        bottom: builds the bottom model: ``bottom(inputs: BottomInputs, width: int, **options) -> torch.nn.Module``.
        private_seed: 32 bytes.
    """

    frame: pl.DataFrame | None = None
    bottom: Callable[..., Any] | None = None
    private_seed: bytes | None = None


@dataclass(frozen=True)
class PartySetup:
    """The content of a party's three files, checked for consistency; ``folder`` is that of its party.toml, if any."""

    config: PartyConfig
    job: JobConfig
    federation: FederationConfig
    entry: PartyEntry
    parameters: Parameters
    given: GivenInPython = GivenInPython()
    folder: Path | None = None

    def load_table(self) -> Table:
        """Load this party's table.

        Raises:
            DataError: the table cannot be used as configured.
        """
        is_active = self.entry.role is Role.ACTIVE
        return load_table(self.config.data, self.job.ids, needs_label=is_active, frame=self.given.frame)

    def own_seed(self) -> bytes:
        """This party's private training seed.

        Raises:
            ConfigError: the seed file cannot be used.
        """
        return self.given.private_seed or load_private_seed(self.config.private_seed)

    @property
    def name(self) -> str:
        """This party's name."""
        return self.config.name

    @property
    def bottom(self) -> BottomConfig:
        """This party's bottom model: by default, encodings at a passive party and a trained one at the active party.

        A linear model has every party's columns as they are, whitened.
        """
        if self.config.bottom is not None:
            return self.config.bottom
        if self.job.is_linear:
            return EncodingsBottom(bins=1)
        return MlpBottom(bins=16) if self.entry.role is Role.ACTIVE else EncodingsBottom()

    def check_width(self, width: int) -> None:
        """Check the width of the bottom that was built against the job.

        Raises:
            ConfigError: the job states another one.
        """
        stated = self.job.model.widths.get(self.name, width)
        if stated != width:
            raise ConfigError(
                f"the bottom of party '{self.name}' has width {width}, and the job states {stated}",
                remedy=f"remove '{self.name}' from model.widths of the job, where the width follows from the table",
            )

    def check_trainable(self, trains: bool) -> None:
        """Check that a passive party's bottom is what the job declares: frozen, unless ``model.trainable`` names it.

        Raises:
            ConfigError: it is not.
        """
        declared = self.name in self.job.model.trainable
        if self.entry.role is Role.ACTIVE or trains == declared:
            return
        if trains:
            raise ConfigError(
                f"the bottom of party '{self.name}' trains, but the job declares it frozen",
                remedy=f"choose a frozen bottom (encodings, identity, or custom with frozen = true), or add "
                f"'{self.name}' to model.trainable of the job, which every party then has to accept",
            )
        raise ConfigError(
            f"the bottom of party '{self.name}' is frozen, but the job declares that it trains",
            remedy=f"remove '{self.name}' from model.trainable of the job, or choose a bottom that trains",
        )

    @property
    def optimizer(self) -> OptimizerConfig:
        """How this party trains its own parameters."""
        return self.job.completed(self.config.optimizer or self.job.training.optimizer)

    @property
    def peers(self) -> tuple[str, ...]:
        """The other parties, excluding the coordinator."""
        return tuple(name for name in self.federation.names if name != self.name)


def load_party(path: Path) -> PartySetup:
    """Read party.toml and the job and federation it names.

    Raises:
        ConfigError: a file is invalid, or the files contradict each other.
        ParameterError: see ``load_job_setup``.
    """
    config = load_toml(path, PartyConfig)
    job, federation, parameters = load_job_setup(config.job)
    if config.name not in federation.names:
        raise ConfigError(
            f"party '{config.name}' is not in the federation",
            detail=f"{path}: name; {job.federation} has {', '.join(federation.names)}",
            remedy="correct 'name' in party.toml or add the party to federation.toml",
        )
    entry = federation.party(config.name)
    return PartySetup(config, job, federation, entry, parameters, folder=path.absolute().parent)


def party_credentials(setup: PartySetup, *, looks_only: bool = False) -> Credentials | None:
    """The party's credentials, required unless the federation sets ``insecure-loopback``.

    Args:
        looks_only: remember no revocation list that was not in force before.

    Raises:
        ConfigError: certificate files are missing or invalid.
    """
    lists = NewestLists(setup.config.newest_lists, changes=not looks_only)
    return load_credentials(setup.config.tls, setup.federation, setup.name, file="party.toml", newest_lists=lists)
