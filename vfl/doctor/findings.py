"""Collects the findings of one member about another, or about itself."""

from __future__ import annotations

from vfl.errors import RemoteError, VflError
from vfl.messages import Check, Finding, Verdict


class FindingLog:
    """Findings of one member about one target, in the order in which they were made.

    Args:
        source: the member that checks.
        target: the member that is checked; the same for its own files.
    """

    def __init__(self, source: str, target: str) -> None:
        self.source = source
        self.target = target
        self.findings: list[Finding] = []

    def ok(self, check: Check, summary: str) -> None:
        """Add a check that passed."""
        self.findings.append(Finding(self.source, self.target, check, Verdict.OK, summary))

    def warning(self, check: Check, summary: str, *, side: str, remedy: str) -> None:
        """Add something that does not stop a run at present."""
        self.findings.append(Finding(self.source, self.target, check, Verdict.WARNING, summary, side, remedy))

    def problem(self, check: Check, summary: str, *, side: str, remedy: str, code: str) -> None:
        """Add something that would stop a run with an error of this code; ``side`` needs to act."""
        self.findings.append(Finding(self.source, self.target, check, Verdict.PROBLEM, summary, side, remedy, code))

    def failed(self, check: Check, error: VflError, *, side: str) -> None:
        """Add the part of an error that may cross."""
        summary = error.remote_summary if isinstance(error, RemoteError) else error.summary
        self.problem(check, summary, side=side, remedy=error.remedy, code=error.code)

    def failed_here(self, check: Check, error: VflError) -> None:
        """Add an error with its details, for this member's own operator: never sent to anybody."""
        summary = f"{error.summary}\n{error.detail}" if error.detail else error.summary
        self.problem(check, summary, side=self.source, remedy=error.remedy, code=error.code)


def problems(findings: list[Finding] | tuple[Finding, ...]) -> list[Finding]:
    """The findings that would stop a run."""
    return [finding for finding in findings if finding.verdict is Verdict.PROBLEM]
