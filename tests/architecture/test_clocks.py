"""Nothing but what people read, and certificates, depends on the wall clock: it may jump while a job runs."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
WALL_CLOCKS = {
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "time.ctime",
    "time.strftime",
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
}
ALLOWED = {
    "vfl/audit/trail.py": "time of a record",
    "vfl/privacy/ledger/release.py": "time of a release",
    "vfl/run_records/rows.py": "time of an event",
    "vfl/run_records/store.py": "time of an event",
    "vfl/pki/issuing/authority.py": "validity of a certificate that is issued",
    "vfl/pki/trust.py": "validity of a certificate; 'current_time' for those who ask",
}
CURRENT_TIME_USERS = {
    "vfl/transport/",
    "vfl/pki/",
    "vfl/party/self_checks.py",
    "vfl/doctor/answer.py",
    "vfl/doctor/probe.py",
    "vfl/cli/",
}


def _uses(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            parts = name.split(".")
            if ".".join(parts[-2:]) in WALL_CLOCKS:
                yield name
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (f"time.{alias.name}" for alias in node.names if f"time.{alias.name}" in WALL_CLOCKS)


def _modules():
    for path in sorted((ROOT / "vfl").rglob("*.py")):
        if "_pb2" not in path.name:
            yield path.relative_to(ROOT).as_posix(), path


def test_the_wall_clock_is_read_where_people_or_certificates_need_it_and_nowhere_else():
    readers = {name: sorted(set(_uses(path))) for name, path in _modules() if any(_uses(path))}
    assert readers
    assert {name: uses for name, uses in readers.items() if name not in ALLOWED} == {}


def test_what_reads_it_for_certificates_is_not_asked_for_timeouts():
    users = {name for name, path in _modules() if "current_time" in path.read_text(encoding="utf-8")}
    assert {name for name in users if not name.startswith(tuple(CURRENT_TIME_USERS))} == set()


def test_a_wall_clock_would_be_seen(tmp_path):
    module = tmp_path / "module.py"
    module.write_text("import time, datetime\ndeadline = time.time() + 5\nx = datetime.datetime.now()\n", "utf-8")
    assert sorted(_uses(module)) == ["datetime.datetime.now", "time.time"]
