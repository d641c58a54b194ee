"""Several settings of a job, in simulation."""

import json

import pytest
from typer.testing import CliRunner

import vfl
from vfl.cli.main import app
from vfl.errors import ConfigError

ROWS = [f"c{row:03d}" for row in range(120)]
BANK = {"id": ROWS, "y": [row % 2 for row in range(120)], "x": [float(row % 7) for row in range(120)]}
TELCO = {"id": ROWS, "z": [float(row % 5 + row % 2) for row in range(120)]}


def parties():
    bank = vfl.Party("bank", vfl.Table(BANK, id="id", label="y"))
    return {"active": bank, "passive": vfl.Party("telco", vfl.Table(TELCO, id="id"))}


def job(**settings):
    return vfl.Job("credit", **{"task": "binary", "training": {"local_epochs": 1}} | settings)


def test_every_combination_is_a_trial():
    seen = []
    over = {"training.local_epochs": [1, 2], "privacy.relative_noise": [0.4, 0.0]}
    trials = vfl.sweep(job(), **parties(), over=over, done=seen.append)
    assert trials == seen
    assert [dict(trial.settings) for trial in trials] == [
        {"training.local_epochs": epochs, "privacy.relative_noise": noise} for epochs in (1, 2) for noise in (0.4, 0.0)
    ]
    assert [len(trial.run.history) for trial in trials if trial.run] == [5, 6]
    refused = [trial for trial in trials if trial.run is None]
    assert [trial.settings["privacy.relative_noise"] for trial in refused] == [0.0, 0.0]
    assert all("policy" in trial.error or "min_relative_noise" in trial.error for trial in refused)
    assert refused[0].metrics == {}


def test_validation_rows_decide_if_there_are_any():
    with_validation = job(split={"validation": 0.2, "test": 0.2})
    (trial,) = vfl.sweep(with_validation, **parties(), over={"seed": [1]})
    assert trial.metrics.keys() >= {"validation_auc"}
    assert not any(
        name.startswith("validation") for name in vfl.sweep(job(), **parties(), over={"seed": [1]})[0].metrics
    )


def test_the_job_itself_stays_as_it_is():
    first = job()
    before = first.stated
    vfl.sweep(first, **parties(), over={"training.passes": [1]})
    assert first.stated == before


def test_keys_that_do_not_exist_are_errors_of_their_trials():
    trials = vfl.sweep(job(), **parties(), over={"training.optimiser.rate": [1], "seed.x": [1]})
    assert [trial.run for trial in trials] == [None]
    with pytest.raises(ConfigError, match="nothing to sweep over"):
        vfl.sweep(job(), **parties(), over={})


@pytest.fixture
def files(tmp_path):
    return vfl.write_federation(tmp_path / "federation", job(), **parties())


def command(files, *arguments):
    party = [part for name in ("telco", "bank") for part in ("--party", str(files.party(name)))]
    result = CliRunner().invoke(app, ["sweep", str(files.job), *party, *arguments])
    return result.exit_code, result.output


def test_the_command(files, tmp_path):
    out = tmp_path / "sweep.json"
    code, output = command(files, "--over", "training.local_epochs=1,2", "--json", str(out))
    assert code == 0, output
    assert [line.partition(":")[0] for line in output.splitlines()] == [
        "training.local_epochs = 1", "training.local_epochs = 2"
    ]  # fmt: skip
    saved = json.loads(out.read_text(encoding="utf-8"))
    assert [trial["settings"]["training.local_epochs"] for trial in saved] == [1, 2]
    assert saved[0]["test"].keys() == saved[0]["alone"].keys()
    folder = files.party("telco").parent
    assert not (folder / "ledger.sqlite").exists(), "no ledger is charged"


def test_the_command_refuses_what_it_cannot_do(files):
    assert command(files, "--over", "training.local_epochs")[0] == 2
    code, output = command(files, "--over", "task.kind=nonsense")
    assert code == 2
    assert "no combination" in output
    result = CliRunner().invoke(
        app, ["sweep", str(files.job), "--party", str(files.party("telco")), "--over", "seed=1,2"]
    )
    assert result.exit_code == 2
    assert "one party with labels" in result.output
