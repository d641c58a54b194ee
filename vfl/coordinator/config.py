"""coordinator.toml: the coordinator's own settings, which no party sees."""

from __future__ import annotations

from pathlib import Path

from vfl.audit.trail import AuditConfig
from vfl.configuration.federation import TlsFiles
from vfl.configuration.toml_files import Configuration
from vfl.pki.newest_lists import FILE_NAME
from vfl.run_records.store import RunsConfig


class CoordinatorConfig(Configuration):
    """coordinator.toml: the coordinator's certificate files (needed only with ``tls.mode = "mutual"``) and its records.

    Attributes:
        audit: where the coordinator logs everything it sends and receives.
        runs: where it records the progress of its runs.
    """

    tls: TlsFiles | None = None
    audit: AuditConfig = AuditConfig()
    runs: RunsConfig = RunsConfig()

    @property
    def newest_lists(self) -> Path:
        """File beside the record of runs that says which revocation lists were in force."""
        return self.runs.database.with_name(FILE_NAME)


def coordinator_beside(job: Path) -> CoordinatorConfig:
    """The defaults for a coordinator without its own file: paths are relative to the job file."""
    return CoordinatorConfig(
        audit=AuditConfig(directory=job.parent / AuditConfig().directory),
        runs=RunsConfig(database=job.parent / RunsConfig().database),
    )
