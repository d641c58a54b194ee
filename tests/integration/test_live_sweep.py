"""``vfl sweep --live``: settings on live parties, one after the other, until a ledger allows no more."""

import asyncio
import json
import threading

import pytest
from support.federations.federation import COORDINATOR, Federation
from support.federations.in_process import parties_in_process
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.errors import RemoteError
from vfl.party.config import load_party

CLINIC = "clinic"


@pytest.fixture
def federation(tmp_path):
    """Parties that accept seeds up to 20; clinic releases a row twice at most, and each run takes one release."""
    made = Federation(tmp_path, rows=160)
    made.job["training"] |= {"passes": 1, "batch_size": 32}
    for name in made.names:
        made.parties[name]["accept"] = {"seed": {"max": 20}}
    made.parties[CLINIC]["policy"]["max_releases_per_row"] = 2
    return made.write()


@pytest.fixture
def live(federation):
    """The parties, in an event loop of another thread."""
    ready, over = threading.Event(), asyncio.Event()
    loops = []

    async def serve():
        loops.append(asyncio.get_running_loop())
        async with parties_in_process(federation, keep_serving=True):
            ready.set()
            await over.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield federation
    loops[0].call_soon_threadsafe(over.set)
    thread.join(60)


def test_it_says_what_it_releases_goes_on_after_a_refused_setting_and_ends_at_a_full_ledger(live, tmp_path):
    out = tmp_path / "sweep.json"
    arguments = ["sweep", str(live.path(COORDINATOR, "job.toml")), "--live", "--over", "seed=11,99,12,13,14"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(out)])
    assert result.exit_code == RemoteError.exit_code, result.output
    first, *lines = result.stdout.splitlines()
    assert "5 runs on live parties; together they release a row up to 5 times (1, 1, 1, 1, 1)" in first
    trials = json.loads(out.read_text(encoding="utf-8"))
    assert [trial["settings"]["seed"] for trial in trials] == [11, 99, 12, 13, 14]
    assert [bool(trial["metrics"]) for trial in trials] == [True, False, True, False, False]
    assert "seed (beyond what it accepts)" in trials[1]["error"]
    assert "fewer releases left than it needs" in trials[3]["error"]
    assert trials[4]["error"].startswith("not run: clinic:")
    assert "3 of 5 combinations have no result" in lines[-1]
    with load_party(live.path(CLINIC)).config.open_ledger() as ledger:
        assert {use.run for use in ledger.summary().uses} == _runs(live, "finished"), "each run is charged, no other"


def _runs(federation, outcome):
    """Runs that clinic's audit logs say ended so."""
    logs = (log.read_text(encoding="utf-8").splitlines() for log in federation.path(CLINIC, "audit").glob("*.jsonl"))
    read = [[json.loads(line) for line in log] for log in logs]
    return {records[0]["run"] for records in read if records[-1].get("outcome") == outcome}


def test_parties_of_a_live_sweep_are_not_named(federation):
    files = ["--party", str(federation.path(CLINIC))]
    job = str(federation.path(COORDINATOR, "job.toml"))
    result = CliRunner().invoke(app, ["sweep", job, "--live", "--over", "seed=1", *files])
    assert result.exit_code == 2
