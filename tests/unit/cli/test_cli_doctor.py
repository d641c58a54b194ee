"""``vfl doctor`` as its users run it: real party processes, a table, JSON and an exit code."""

import json
import signal

import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Processes
from typer.testing import CliRunner

from vfl.cli.main import app

CLINIC = "clinic"


def doctor(*arguments):
    result = CliRunner().invoke(app, ["doctor", *map(str, arguments)])
    return result.exit_code, result.output


def test_parties_that_wait_are_asked_and_then_do_their_job(federation, tmp_path):
    job, out = federation.write().path(COORDINATOR, "job.toml"), tmp_path / "findings.json"
    with Processes(federation) as processes:
        processes.start(*federation.names)
        for name in federation.names:
            processes.wait_for(name, "waiting for the coordinator")
        code, output = doctor(job, "--json", out)
        assert (code, "no problems found; 0 warning(s)" in output) == (0, True), output
        assert "bank -> clinic" in output
        assert doctor(job, "--brief")[1].splitlines()[0].startswith("no problems found")
        code, output = doctor(federation.path(CLINIC))
        assert (code, "in use by this party's own process" in output) == (0, True), output
        processes.start_command(COORDINATOR, "align", "job.toml")
        assert set(processes.wait().values()) == {0}
        assert "asked for a diagnosis" in processes.output(CLINIC)
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["exit_code"] == 0
    assert {"source": "clinic", "target": "bank", "check": "state", "verdict": "ok"}.items() <= next(
        f for f in content["findings"] if (f["source"], f["target"], f["check"]) == (CLINIC, ACTIVE, "state")
    ).items()


def test_a_missing_party_is_reported_with_what_to_do_and_where(federation, tmp_path):
    out = tmp_path / "findings.json"
    with Processes(federation.write()) as processes:
        processes.start(ACTIVE)
        processes.wait_for(ACTIVE, "waiting for the coordinator")
        code, output = doctor(federation.path(COORDINATOR, "job.toml"), "--json", out, "--brief")
        processes.signal(ACTIVE, signal.SIGTERM)
        processes.wait()
    assert code == 11
    (missing, relayed, closing) = output.splitlines()[1:]
    assert missing.startswith("coordinator -> clinic")
    assert relayed.startswith("bank -> clinic")
    for says in ("nothing listens there", "  clinic  ", "start clinic there ('vfl party')"):
        assert says in missing
    assert closing.startswith("2 problem(s) would stop a run")
    content = json.loads(out.read_text(encoding="utf-8"))
    assert content["exit_code"] == 11
    assert [f["side"] for f in content["findings"] if f["verdict"] == "problem"] == [CLINIC, CLINIC]


@pytest.mark.parametrize("file", ["federation.toml", "coordinator.toml"])
def test_other_files_are_refused(federation, file):
    code, output = doctor(federation.write().path(COORDINATOR, file))
    assert code == 2
    assert "'vfl doctor' needs a job file or a party file" in output


@pytest.mark.parametrize(("name", "file"), [(COORDINATOR, "job.toml"), (CLINIC, "party.toml")])
def test_invalid_files_are_reported_with_file_and_key(federation, name, file):
    federation.job["training"]["epoch"] = 3
    code, output = doctor(federation.write().path(name, file))
    assert code == 2
    assert "training.epoch: unknown key" in output
    assert "1 problem(s)" in output


def test_a_table_that_is_missing_does_not_hide_the_rest(federation):
    del federation.tables[CLINIC]
    code, output = doctor(federation.write().path(CLINIC))
    assert code == 3
    for says in ("the configured table does not exist", "no process of this party is running", "clinic -> bank"):
        assert says in output


def test_a_file_for_the_findings_that_cannot_be_written_is_an_error(federation, tmp_path):
    code, output = doctor(federation.write().path(CLINIC), "--json", tmp_path / "absent" / "out.json")
    assert code == 2
    assert "the findings cannot be written" in output
