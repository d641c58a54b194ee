"""Output of ``vfl doctor``: a table for people, JSON for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from vfl.errors import ConfigError
from vfl.messages import Finding, Verdict
from vfl.run_records.strict_json import strict_json
from vfl.runtime.foreign_text import printable_lines
from vfl.runtime.private.files import write_report

_STYLES = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.PROBLEM: "bold red"}

_WIDTH_OF_A_TABLE = 120


def show_findings(findings: list[Finding], console: Console, *, brief: bool = False) -> None:
    """One row for each check: who checked whom, the result, where to act and what to do.

    On a narrow terminal, where the columns would break words, a paragraph for each check.

    Args:
        brief: hide checks that passed.
    """
    shown = [finding for finding in findings if not (brief and finding.verdict is Verdict.OK)]
    if console.width < _WIDTH_OF_A_TABLE:
        for finding in shown:
            _show_paragraph(finding, console)
    elif shown:
        console.print(_table(shown))
    counts = Counter(finding.verdict for finding in findings)
    found, warnings = counts[Verdict.PROBLEM], counts[Verdict.WARNING]
    closing = f"{found} problem(s) would stop a run" if found else "no problems found"
    console.print(Text(f"{closing}; {warnings} warning(s), {counts[Verdict.OK]} ok"))


def _show_paragraph(finding: Finding, console: Console) -> None:
    heading = Text(f"{_who(finding)}  {finding.check}  ").append_text(_verdict(finding))
    console.print(heading, soft_wrap=True)
    remedy = f"{finding.side}: {finding.remedy}" if finding.side and finding.remedy else finding.remedy
    for text in filter(None, (finding.summary, remedy)):
        console.print(Padding(Text(printable_lines(text)), (0, 0, 0, 4)))


def _table(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("who", "check", "", "found", "where to act", "what to do"):
        table.add_column(heading, overflow="fold", no_wrap=heading in {"who", "check", ""})
    for finding in findings:
        texts = (Text(printable_lines(text)) for text in (finding.summary, finding.side, finding.remedy))
        table.add_row(Text(_who(finding)), Text(str(finding.check)), _verdict(finding), *texts)
    return table


def _who(finding: Finding) -> str:
    return finding.source if finding.source == finding.target else f"{finding.source} -> {finding.target}"


def _verdict(finding: Finding) -> Text:
    return Text(str(finding.verdict), style=_STYLES[finding.verdict])


def write_findings(findings: list[Finding], code: int, path: Path) -> None:
    """Write all findings as JSON.

    Raises:
        ConfigError: the file cannot be written.
    """
    content = {"exit_code": code, "findings": [asdict(finding) for finding in findings]}
    try:
        write_report(path, strict_json(content) + "\n")
    except OSError as error:
        raise ConfigError("the findings cannot be written", detail=str(error), remedy="correct --json") from None
