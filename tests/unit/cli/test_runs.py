"""``vfl runs``: what a person at the coordinator reads about runs, and how to go on."""

import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.cli.runs.output import results
from vfl.coordinator.config import coordinator_beside
from vfl.errors import CheckpointError, ConfigError
from vfl.ids import CheckpointId
from vfl.run_records.result import Recovery, RunResult
from vfl.run_records.store import CommittedCheckpoint, RunState, RunStore, StepRecord
from vfl.run_records.summary import summary_of

RUN = "credit-1a2b3c4d"
LONG = "mortgages-of-all-branches-in-the-north"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A record of two runs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "runs.sqlite"
    with RunStore(path) as store:
        store.begin(RUN, "credit", "trial", "model=aa", "/srv/job.toml")
        store.next_attempt(RUN)
        for step in range(1, 5):
            parties = {name: CheckpointId(step, 0, "ab" * 32) for name in ("bank", "clinic")}
            record = StepRecord(step, 0, "train", (step - 1) // 2, step, 256, 1 / step, 0.5, 1_500_000)
            store.commit(RUN, CommittedCheckpoint(step, 0, step == 2, parties, "{}"), [record])
        store.event(RUN, "failure", "clinic went away [y/n]", party="clinic", steps_lost=1)
        store.next_attempt(RUN)
        store.end(RUN, RunState.FAILED, "clinic: the disk is full")
        store.begin(f"{LONG}-00000000", LONG, "trial", "model=aa", "/srv/other.toml")
    return path


@pytest.fixture
def runs():
    def run(*arguments):
        result = CliRunner().invoke(app, ["runs", *map(str, arguments)])
        return result.exit_code, result.output

    return run


def test_all_runs_the_last_one_first(path, runs):
    code, output = runs()
    assert code == 0, output
    heading, *rows = output.splitlines()
    assert heading.split() == ["run", "state", "step", "attempt", "started", "took"]
    assert rows[0].split()[:4] == [f"{LONG}-00000000", "running", "0", "-"]
    assert rows[1].split()[:4] == [RUN, "failed", "4", "1"]


def test_a_narrow_terminal_loses_nothing(path, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with RunStore(path) as store:
        store.event(RUN, "interrupted", "a-word-of-twenty-six-signs " * 6, party="clinic")
    for arguments in ((), ("show", RUN), ("show", LONG)):
        _, output = runs(*arguments)
        long = [line for line in output.splitlines() if len(line) > 80]
        assert [line for line in long if "resume with" not in line.lower()] == []
        assert output.count("a-word-of-twenty-six-signs") == (6 if RUN in arguments else 0)
    listed = runs()[1].splitlines()
    assert f"{LONG}-00000000" in listed
    assert RUN in listed
    assert any("0 s" in line for line in listed)


def test_one_run(path, runs):
    code, output = runs("show", RUN)
    assert code == 0, output
    rows = [" ".join(line.split()) for line in output.splitlines()]
    for row in (
        "job credit, federation trial",
        "state failed",
        "error clinic: the disk is full",
        "step 4 is the last step with a checkpoint at all parties",
        "1 2 0.7500 1.0 3.0",
        "2 2 0.2917 1.0 3.0",
        "4 0 a killed process bank, clinic",
        "2 0 a power cut bank, clinic",
        "Resume with: vfl run --resume /srv/job.toml",
    ):
        assert row in rows, output
    (told,) = [row for row in rows if "failure" in row]
    assert told.endswith("failure clinic went away [y/n] (party clinic, steps lost 1)")


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (RunState.FINISHED, "there is nothing to do"),
        (RunState.SAVED, "Resume with: vfl run --resume /srv/job.toml"),
        (RunState.RUNNING, "If its coordinator is no longer running, resume with"),
    ],
)
def test_what_to_do_next(path, runs, state, told):
    with RunStore(path) as store:
        store.end(RUN, state)
    assert told in runs("show", RUN)[1]


def test_a_run_is_found_by_the_beginning_of_its_name(path, runs):
    assert runs("show", "credit")[1] == runs("show", RUN)[1]
    with RunStore(path) as store:
        store.begin(f"{RUN}-2", "credit", "trial", "model=aa", "/srv/job.toml")
    code, output = runs("show", "credit")
    assert (code, "2 runs have names that begin so" in output) == (ConfigError.exit_code, True)
    assert runs("show", RUN)[0] == 0


@pytest.mark.parametrize("ended", [True, False])
def test_metrics_history_and_interruptions_are_shown(path, runs, ended):
    result = RunResult(RUN, rows=900, train_rows=600, test={"auc": 0.75, "log_loss": math.nan} if ended else {})
    result.history = [{"epoch": 1.0, "loss": 0.7, "validation_auc": 0.61}, {"epoch": 2.0, "loss": 0.3}]
    result.recoveries = [Recovery("clinic: its process was shut down", "bottom_forward of step 3", 2, 4.25)]
    with RunStore(path) as store:
        if ended:
            store.end(RUN, RunState.FINISHED, outcome=result.to_json())
        else:
            parties = {"bank": CheckpointId(5, 1, "ab" * 32)}
            store.commit(RUN, CommittedCheckpoint(5, 1, False, parties, result.to_json()), [])
    rows = [" ".join(line.split()) for line in runs("show", RUN)[1].splitlines()]
    assert "epoch steps mean loss seconds MB sent auc" in rows
    assert "1 2 0.7500 1.0 3.0 0.6100" in rows
    assert "bottom_forward of step 3 clinic: its process was shut down 2 4.2" in rows
    assert "rows 900 in common, 600 of them for training" in rows
    assert ("test auc 0.7500, log loss nan" in rows) is ended
    data = json.loads(runs("show", RUN, "--json")[1], parse_constant=pytest.fail)
    told = data["outcome"] if ended else data["checkpoints"][0]["progress"]
    assert told["history"][0]["validation_auc"] == 0.61
    assert not ended or told["test"] == {"auc": 0.75, "log_loss": None}
    assert [epoch["epoch"] for epoch in data["epochs"]] == [1, 2]


def test_the_epoch_whose_model_was_kept_is_shown(path, runs):
    result = RunResult(RUN, history=[{"epoch": 1.0, "loss": 0.7, "best": 1.0}, {"epoch": 5.0, "loss": 0.3}])
    with RunStore(path) as store:
        store.end(RUN, RunState.FINISHED, outcome=result.to_json())
    rows = [" ".join(line.split()) for line in runs("show", RUN)[1].splitlines()]
    assert "epoch steps mean loss seconds MB sent model" in rows
    assert "1 2 0.7500 1.0 3.0 kept" in rows
    assert any(row.startswith("5 ") for row in rows), "passes between them were left out"
    assert "kept the model of epoch                1 of 5" in summary_of(result)
    assert (result.best_epochs, result.last_epoch) == ([1], 5)


def test_the_command_that_resumes_names_the_coordinators_file(path, runs):
    own = path.with_name("coordinator.toml")
    own.touch()
    assert f"Resume with: vfl run --resume /srv/job.toml --config {own}\n" in runs("show", RUN)[1]


def test_the_results_of_a_run_are_lines_with_the_places_of_everything(tmp_path):
    result = RunResult(RUN, rows=1900, steps=14, test={"auc": 0.75}, history=[{"epoch": 1.0, "loss": 0.5}])
    settings = coordinator_beside(tmp_path / "job.toml")
    assert list(results(result, settings, tmp_path / "out.json")) == [
        summary_of(result),
        f"each party has its part of the model; report: {tmp_path / 'out.json'}, record: {tmp_path / 'runs.sqlite'} "
        f"('vfl runs show {RUN}'), audit log in {tmp_path / 'audit'}",
    ]


def test_of_many_events_the_last_ones(path, runs):
    with RunStore(path) as store:
        for number in range(40):
            store.event(RUN, "interrupted", f"reason {number}.")
    text = runs("show", RUN)[1]
    assert "Events (11 earlier ones not shown)" in text
    assert [number for number in range(40) if f"reason {number}." in text] == list(range(10, 40))
    assert len(json.loads(runs("show", RUN, "--json")[1])["events"]) == 41


def test_as_data(path, runs):
    listed = json.loads(runs("--json")[1])
    assert [(found["run"], found["state"]) for found in listed] == [(f"{LONG}-00000000", "running"), (RUN, "failed")]
    found = json.loads(runs("show", RUN, "--json")[1])
    assert found == json.loads(runs("--json", "show", RUN)[1])
    assert (found["step"], found["attempt"], found["error"]) == (4, 1, "clinic: the disk is full")
    assert [checkpoint["step"] for checkpoint in found["checkpoints"]] == [4, 3, 2]
    assert found["checkpoints"][0]["parties"]["bank"] == {"step": 4, "attempt": 0, "digest": "ab" * 32}
    assert [epoch["steps"] for epoch in found["epochs"]] == [2, 2]
    assert found["events"][0]["facts"] == {"party": "clinic", "steps_lost": 1}


def test_a_record_elsewhere(path, runs, tmp_path, monkeypatch):
    other = tmp_path / "other" / "x.sqlite"
    other.parent.mkdir()
    path.rename(other)
    for arguments in (["--runs", other], ["show", RUN, "--runs", other], ["--runs", other, "show", RUN]):
        code, output = runs(*arguments)
        assert (code, RUN in output) == (0, True)


def test_looking_makes_no_record_and_says_where_it_looked(runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for arguments in ([], ["show", RUN]):
        code, output = runs(*arguments)
        assert code == ConfigError.exit_code
        assert str(Path.cwd() / "runs.sqlite") in output
        assert "--runs" in output
    assert list(tmp_path.iterdir()) == []


def test_no_runs_no_such_run_and_no_record(path, runs, tmp_path):
    code, output = runs("show", "credit-0")
    assert (code, "no such run" in output, RUN in output) == (ConfigError.exit_code, True, True)
    (tmp_path / "text").write_text("hello, this is no database" * 99)
    code, output = runs("--runs", tmp_path / "text")
    assert (code, "is damaged" in output) == (CheckpointError.exit_code, True)
    RunStore(tmp_path / "empty").close()
    assert runs("--runs", tmp_path / "empty") == (0, f"no runs yet in {tmp_path / 'empty'}\n")
