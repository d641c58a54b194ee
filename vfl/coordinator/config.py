"""coordinator.toml: the coordinator's own settings, which no party sees."""

from __future__ import annotations

from pathlib import Path

from vfl.audit.trail import AuditConfig
from vfl.configuration.federation import TlsFiles
from vfl.configuration.toml_files import Configuration
from vfl.run_records.store import RunsConfig


class CoordinatorConfig(Configuration):
    """coordinator.toml: the coordinator's certificate files, needed with ``tls.mode = "mutual"`` only, and its records.

    Attributes:
        audit: where the coordinator keeps a log of everything that it sends and receives.
        runs: where it keeps how far its runs are.
    """

    tls: TlsFiles | None = None
    audit: AuditConfig = AuditConfig()
    runs: RunsConfig = RunsConfig()


def coordinator_beside(job: Path) -> CoordinatorConfig:
    """What holds for a coordinator without a file of its own: paths are relative to the job file."""
    return CoordinatorConfig(
        audit=AuditConfig(directory=job.parent / AuditConfig().directory),
        runs=RunsConfig(database=job.parent / RunsConfig().database),
    )
