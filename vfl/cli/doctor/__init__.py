"""``vfl doctor``: what would stop a run, and what is shown of it."""

from vfl.cli.doctor.diagnosis import diagnose_job, diagnose_party, exit_code
from vfl.cli.doctor.output import show_findings, write_findings

__all__ = ["diagnose_job", "diagnose_party", "exit_code", "show_findings", "write_findings"]
