"""Every promise of SECURITY.md names tests that hold it, those tests exist and run, and its numbers are the code's."""

import ast
import re
from pathlib import Path

import pytest

from vfl.messages import MAX_JOB_TEXT
from vfl.runtime.foreign_text import MAX_CHARACTERS
from vfl.runtime.log_limits import MAX_LINES, MAX_SOURCES, PERIOD_SECONDS
from vfl.transport.server import connections
from vfl.transport.wire.control_codec import MAX_TEXT
from vfl.transport.wire.failures import PACE_SECONDS, PACED_AFTER
from vfl.transport.wire.limits import (
    HANDSHAKE_SECONDS,
    MAX_CALLS_OF_ONE,
    MAX_RELAYED_OF_PAIR,
    MAX_RELAYED_WAITING,
    MEBIBYTE,
    REQUEST_SECONDS,
    Limits,
)

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SECTIONS = {
    "Threat model",
    "Stated leaks",
    "Alignment",
    "Parties without a port",
    "Diagnosis",
    "What members can do to each other",
    "Data on disk",
    "Audit log",
}
NOT_RUN_BY_DEFAULT = {"faults_full", "skip", "xfail"}

_BLOCK = re.compile(r"^<!-- promises -->$(.*?)^<!-- end of promises -->$", re.MULTILINE | re.DOTALL)
_TEST = re.compile(r"\[`(test_\w+)`\]\((tests/[\w/]+\.py)\)")


def _items(block):
    """List items with the lines that continue them, and rows of tables without their heads."""
    lines = [line for line in block.strip().splitlines() if line]
    if lines[0].startswith("|"):
        return lines[2:]
    return re.split(r"^- ", "\n".join(lines), flags=re.MULTILINE)[1:]


def _sections(text):
    """Promises by heading."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    found = {title: _BLOCK.findall(body) for title, body in zip(parts[1::2], parts[2::2], strict=True)}
    return {title: [item for block in blocks for item in _items(block)] for title, blocks in found.items() if blocks}


def _marks(node):
    return {part.attr for decorator in node for part in ast.walk(decorator) if isinstance(part, ast.Attribute)}


def _runs(name, path):
    """Whether a file defines a test that a run of all tests includes."""
    if not (ROOT / path).is_file():
        return False
    module = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    marked = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["pytestmark"]
    ]
    tests = [
        node for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name
    ]
    return any(not _marks([*marked, *test.decorator_list]) & NOT_RUN_BY_DEFAULT for test in tests)


def _problems(text):
    for title, items in _sections(text).items():
        for item in items:
            named = _TEST.findall(item)
            if not named:
                yield f"{title}: no test is named for: {item[:80]}"
            yield from (f"{title}: no such test: {name} in {path}" for name, path in named if not _runs(name, path))


PROMISES = _sections(SECURITY)


def test_every_promise_names_tests_that_run():
    assert list(_problems(SECURITY)) == []


def test_the_promises_are_found():
    assert PROMISES.keys() == SECTIONS
    assert sum(map(len, PROMISES.values())) > 35
    # Whatever says who holds it is in a list of promises.
    assert len(re.findall(r"\bHeld by\b", SECURITY)) == len(
        re.findall(r"\bHeld by\b", "".join(_BLOCK.findall(SECURITY)))
    )


@pytest.mark.parametrize(
    ("promise", "says"),
    [
        ("- A promise.", "no test is named for: A promise."),
        ("- A promise. Held by [test](tests/architecture/test_security_promises.py).", "no test is named"),
        (
            "- A promise. Held by [`test_gone`](tests/architecture/test_security_promises.py).",
            "no such test: test_gone",
        ),
        ("- A promise. Held by [`test_gone`](tests/gone.py).", "no such test: test_gone in tests/gone.py"),
        (
            "- A promise. Held by [`test_another_job_recovers_too_and_from_two_deaths_at_once`]"
            "(tests/fault/test_other_jobs.py).",
            "no such test",
        ),
        ("| What | Held by |\n|---|---|\n| a limit | nobody |", "no test is named for: | a limit"),
    ],
)
def test_a_promise_that_nothing_holds_would_be_seen(promise, says):
    text = f"## A section\n\n<!-- promises -->\n\n{promise}\n\n<!-- end of promises -->\n"
    assert [problem for problem in _problems(text) if says in problem]


_DEFAULTS = Limits()
NUMBERS = {
    "one message": [_DEFAULTS.max_message_bytes // MEBIBYTE],
    "messages that wait or are arriving": [_DEFAULTS.inbox_bytes // MEBIBYTE, _DEFAULTS.inbox_messages],
    "the same, for runs that this party has not prepared": [
        _DEFAULTS.held_bytes // MEBIBYTE,
        _DEFAULTS.held_messages,
    ],
    "calls of one member at once": [MAX_CALLS_OF_ONE],
    "time until the message of a call that carries one": [REQUEST_SECONDS],
    "pause within a message": [_DEFAULTS.stall_seconds],
    "calls of somebody who is no member, or was revoked": [0],
    "connections of one member": [connections.MAX_CONNECTIONS_OF_ONE],
    "connections on which no member has called yet": [
        connections.MAX_STRANGERS_OF_ONE,
        connections.MAX_STRANGERS,
        connections.STRANGER_SECONDS,
        HANDSHAKE_SECONDS,
    ],
    "connections in total": [connections._MAX_CONNECTIONS],
    "relayed connections of one member to one party": [MAX_RELAYED_OF_PAIR, MAX_RELAYED_WAITING],
    "lines in the process log about calls that fail, diagnoses and relayed connections": [
        MAX_LINES,
        PERIOD_SECONDS,
        MAX_SOURCES,
    ],
    "calls of one member that fail, and so records of them in the audit log": [
        PACED_AFTER,
        PERIOD_SECONDS,
        PACE_SECONDS,
    ],
    "text of other members in terminals and logs": [MAX_CHARACTERS],
    "texts of a control message": [MAX_TEXT, MAX_JOB_TEXT],
}


def test_the_numbers_are_those_of_the_code():
    rows = [
        [cell.strip() for cell in item.strip("|").split("|")] for item in PROMISES["What members can do to each other"]
    ]
    stated = {what: [float(number) for number in re.findall(r"\b\d+\b", limit)] for what, limit, _ in rows}
    assert {what: numbers for what, numbers in stated.items() if numbers} == NUMBERS
