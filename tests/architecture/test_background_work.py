"""Nobody waits indefinitely for a task whose failure nobody noticed: tasks are started in one module."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STARTS_TASKS = "vfl/runtime/background.py"
REFUSED = {
    "create_task",
    "ensure_future",
    "TaskGroup",
    "call_soon",
    "call_later",
    "call_at",
    "run_coroutine_threadsafe",
}
FROM_THREADS = {
    "vfl/api/blocking.py": "cancels a task, which cannot fail",
    "vfl/transport/diagnosis/connection_check.py": "sets the result of a future that somebody awaits",
}
AWAITED = {
    "vfl/api/blocking.py": "awaits it at once; known by name so that Ctrl-C can cancel it",
    "vfl/api/simulation.py": "all parties are gathered in the end, however the run ends",
    "vfl/coordinator/parties.py": "the work or the monitoring, whichever ends first; the other is given up",
    "vfl/coordinator/process.py": "the run; its result or its cancellation is awaited",
    "vfl/doctor/answer.py": "all who ask for a diagnosis await one probe; closing awaits it, too",
    "vfl/party/peers/exchange_driver.py": "the first failed delivery ends the exchange",
    "vfl/party/service/attempt.py": "a call that may be repeated; its error is kept for the end of the run",
    "vfl/transport/in_memory/network.py": "awaits it at once; known by name so that the receiver's end can cancel it",
    "vfl/transport/relay/service.py": "one direction of a connection, ended with the other",
    "vfl/transport/relay/tunnel.py": "both directions of a connection",
    "vfl/transport/wire/failures.py": "a pause, also when the call was canceled",
}


def _problems(source):
    """Starts of tasks and uses of ``gather`` that leave other tasks running when one fails."""
    for node in ast.walk(ast.parse(source)):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
        if name in REFUSED:
            yield name
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"gather", "asyncio.gather"}:
            keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if keywords.get("return_exceptions") != "True":
                yield "gather"


def _sources():
    for path in sorted((ROOT / "vfl").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if "_pb2" not in name and name != STARTS_TASKS:
            yield name, path.read_text(encoding="utf-8")


def test_tasks_are_started_where_their_failure_is_reported():
    assert {name: found for name, source in _sources() if (found := sorted(_problems(source)))} == {}


def test_every_task_that_is_to_be_awaited_has_somebody_who_does():
    assert {name for name, source in _sources() if "start_awaited" in source} == set(AWAITED)


def test_threads_call_into_the_event_loop_only_with_what_cannot_fail():
    assert {name for name, source in _sources() if "call_soon_threadsafe" in source} == set(FROM_THREADS)


@pytest.mark.parametrize(
    "source",
    [
        "asyncio.create_task(work())",
        "from asyncio import ensure_future as f\nensure_future(work())",
        "loop.call_soon(end, None)",
        "await asyncio.gather(a(), b())",
        "await asyncio.gather(a(), b(), return_exceptions=False)",
        "async with asyncio.TaskGroup() as group: pass",
    ],
)
def test_each_way_around_it_would_be_seen(source):
    assert list(_problems(source))
