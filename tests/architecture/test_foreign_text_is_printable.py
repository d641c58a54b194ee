"""No text of another organization, certificate or file reaches a terminal or a log around ``printable``.

Logs pass through one processor, so loggers come from one module. Terminals are written to by the command line alone,
and what it shows of errors, findings, records and certificates stands inside a call that makes it printable.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOGGERS_COME_FROM = "vfl/runtime/logs.py"
CONFIGURES_LOGS = "vfl/cli/logs.py"
HELPER_PROCESSES = {"vfl/data/sources/parquet_check.py": "its parent reads what it says"}
MAKERS = {
    "logging.getLogger",
    "logging.Logger",
    "structlog.get_logger",
    "structlog.getLogger",
    "structlog.wrap_logger",
    "structlog.stdlib.get_logger",
    "structlog.PrintLogger",
    "structlog.WriteLogger",
}
AROUND_LOGGERS = {
    "warnings.warn",
    "logging.debug",
    "logging.info",
    "logging.warning",
    "logging.error",
    "logging.exception",
}
SINKS = {"print", "echo", "secho", "add_row", "Text", "Panel", "print_exception", "log"}
"""What puts text on a terminal, or into what is put there."""
STREAMS = {"sys.stdout.write", "sys.stderr.write", "sys.__stderr__.write", "sys.__stdout__.write"}
FOREIGN = {
    "summary",
    "remedy",
    "detail",
    "details",
    "reason",
    "error",
    "problem",
    "origin",
    "remote_summary",
    "subject",
    "issuer",
    "identities",
    "roles",
    "dns_names",
    "text",
    "where",
    "doing",
}
"""Attributes of errors, findings, events, replies and certificates with text of others; or variables of these names."""
OF_THIS_PARTY = {
    ("vfl/cli/runs/commands.py", "summary"): "the party's own ledger, as numbers",
}


def _modules():
    for path in sorted((ROOT / "vfl").rglob("*.py")):
        if "_pb2" not in path.name:
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


MODULES = dict(_modules())


def _calls(module):
    return [node for node in ast.walk(module) if isinstance(node, ast.Call)]


def _name(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _makes_printable(function):
    """Whether whatever a function returns is, or is made of, what ``printable`` returned."""
    returned = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value]
    return returned and all(any("printable" in _name(call) for call in _calls(value)) for value in returned)


def _safe(module):
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    return {function.name for function in functions if _makes_printable(function)}


def _foreign(node, safe):
    """Foreign text in an expression, but for what stands inside a call that makes it printable, or counts it."""
    parts = list(ast.iter_child_nodes(node))
    match node:
        case ast.Call():
            name = _name(node)
            if name.startswith("printable") or name in {*safe, "len"}:
                return
            yield from {name} & {"rfc4514_string"}
            methods_of = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            parts = [*methods_of, *node.args, *(keyword.value for keyword in node.keywords)]
        case ast.Compare():  # what is compared is not shown
            parts = []
        case ast.IfExp():  # neither is a condition
            parts = [node.body, node.orelse]
        case ast.GeneratorExp() | ast.ListComp() | ast.SetComp():
            parts = [node.elt]
        case ast.Attribute(value=ast.Name()) | ast.Name():
            yield from {getattr(node, "attr", None) or getattr(node, "id", "")} & FOREIGN
            parts = []
        case ast.Attribute():
            yield from {node.attr} & FOREIGN
    for part in parts:
        yield from _foreign(part, safe)


def _shown_as_it_is(module):
    safe = _safe(module)
    for call in _calls(module):
        if _name(call) in SINKS:
            for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
                yield from _foreign(argument, safe)


def test_loggers_come_from_one_module_whose_processor_makes_text_printable():
    for path, module in MODULES.items():
        made = {ast.unparse(call.func) for call in _calls(module)}
        if path not in {LOGGERS_COME_FROM, CONFIGURES_LOGS}:
            assert not made & MAKERS, path
        assert not made & AROUND_LOGGERS, path
    processors = next(
        node.value
        for node in MODULES[LOGGERS_COME_FROM].body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "_PROCESSORS"
    )
    order = [ast.unparse(each) for each in processors.elts]
    assert order.index("_printable") == order.index("structlog.processors.format_exc_info") - 1, (
        "after everything that adds text, before the stack trace"
    )


def test_terminals_are_written_to_by_the_command_line_alone():
    for path, module in MODULES.items():
        names = {
            _name(call) for call in _calls(module) if ast.unparse(call.func).startswith(("print", "typer.", "rich."))
        }
        called = {ast.unparse(call.func) for call in _calls(module)}
        if not path.startswith("vfl/cli/"):
            assert not names & SINKS, path
            assert "Console" not in {_name(call) for call in _calls(module)}, path
        if path not in HELPER_PROCESSES:
            assert not called & STREAMS, path


@pytest.mark.parametrize("path", [path for path in MODULES if path.startswith("vfl/cli/")])
def test_what_the_command_line_shows_of_others_is_made_printable(path):
    found = {name for name in _shown_as_it_is(MODULES[path]) if (path, name) not in OF_THIS_PARTY}
    assert not found, f"{path} shows {found} as it is: put it through vfl.runtime.foreign_text.printable"


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        ("typer.echo(error)", True),
        ("typer.echo(f'{name}: {finding.summary}')", True),
        ("console.print(Panel(str(error)))", True),
        ("table.add_row(name, record.error)", True),
        ("typer.echo(certificate.subject.rfc4514_string())", True),
        ("typer.echo(printable(finding.summary))", False),
        ("console.print(Text(printable_lines(f'{error}')))", False),
        ("def shown(text):\n    return Text(printable(text))\ntable.add_row(shown(record.error))", False),
        ("def shown(text):\n    return Text(text)\ntable.add_row(shown(record.error))", True),
        ("typer.echo('yes' if record.error else 'no')", False),
    ],
)
def test_each_way_around_it_would_be_seen(source, seen):
    assert bool(list(_shown_as_it_is(ast.parse(source)))) == seen
