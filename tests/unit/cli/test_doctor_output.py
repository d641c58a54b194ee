"""Findings on a narrow terminal: no word is broken, nothing is left out."""

import io

import pytest
from rich.console import Console

from vfl.cli.doctor import show_findings
from vfl.messages import Check, Finding, Verdict

FINDINGS = [
    Finding("hospital-of-the-north", "insurance-company", Check.CERTIFICATE, Verdict.OK, "29 days left"),
    Finding(
        "hospital-of-the-north", "insurance-company", Check.CONNECTION, Verdict.PROBLEM, "nothing listens at "
        "127.0.0.1:50123 although a connection was expected", "insurance-company",
        "start insurance-company there ('vfl party')", "x"
    ),
]  # fmt: skip


@pytest.mark.parametrize("width", [80, 100, 130, 200])
@pytest.mark.parametrize("brief", [False, True])
def test_words_stay_whole_at_any_width(width, brief):
    text = io.StringIO()
    show_findings(FINDINGS, Console(file=text, width=width), brief=brief)
    output = text.getvalue()
    assert all(len(line) <= width for line in output.splitlines())
    words = (
        f"hospital-of-the-north insurance-company 127.0.0.1:50123 although {Check.CONNECTION} expected certificate 29"
    )
    for word in words.split():
        assert (word in output.split()) is not (brief and word in ("certificate", "29")), output
    assert output.splitlines()[-1] == "1 problem(s) would stop a run; 0 warning(s), 1 ok"
