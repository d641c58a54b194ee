"""Output of ``vfl doctor``: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from vfl.errors import ConfigError
from vfl.messages import Finding, Verdict
from vfl.runtime.foreign_text import printable_lines
from vfl.runtime.private.files import write_report

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}


def show_findings(findings: list[Finding], console: Console, *, brief: bool = False) -> None:
    """One row for each check: who checked whom, the result, where to act and what to do.

    Args:
        brief: hide checks that passed.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("who", "check", "", "found", "where to act", "what to do"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"who", "check", ""})
    for finding in findings:
        if brief and finding.verdict is Verdict.OK:
            continue
        who = finding.source if finding.source == finding.target else f"{finding.source} -> {finding.target}"
        verdict = Text(str(finding.verdict), style=_STYLES[finding.verdict])
        texts = (finding.summary, finding.side, finding.remedy)
        table.add_row(Text(who), Text(str(finding.check)), verdict, *(Text(printable_lines(text)) for text in texts))
    if table.row_count:
        console.print(table)
    counts = Counter(finding.verdict for finding in findings)
    found, warnings = counts[Verdict.PROBLEM], counts[Verdict.WARNING]
    closing = f"{found} problem(s) would stop a run" if found else "no problems found"
    console.print(Text(f"{closing}; {warnings} warning(s), {counts[Verdict.OK]} ok"))


def write_findings(findings: list[Finding], code: int, path: Path) -> None:
    """Write all findings as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = {"exit_code": code, "findings": [asdict(finding) for finding in findings]}
    try:
        write_report(path, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise ConfigError("the findings cannot be written", detail=str(error), remedy="correct --json") from None
