import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from support.federations.federation import COORDINATOR
from typer.testing import CliRunner

import vfl.cli.failures
from vfl.api.coordination import coordinator_settings
from vfl.cli.demo.report import Comparison, DemoResult
from vfl.cli.failures import reported, show_error
from vfl.cli.logs import LogFormat, configure_logs
from vfl.cli.main import _write_report, app
from vfl.cli.progress import ProgressBar
from vfl.errors import ConfigError, DataError, InternalError, all_error_types
from vfl.ids import Batch, Split
from vfl.job.callbacks import Epoch, Ready, Step
from vfl.party.config import load_party
from vfl.run_records.result import RunResult
from vfl.runtime.logs import get_logger
from vfl.version import PACKAGE_VERSION


@pytest.fixture
def console(monkeypatch):
    recorded = Console(record=True, width=200, quiet=False, stderr=True)
    monkeypatch.setattr(vfl.cli.failures, "errors_console", recorded)
    return recorded


def test_an_error_with_brackets_is_shown_in_full(console):
    show_error(DataError("no [bottom] here", detail="[red]column[/red] 'x'", remedy="set [bottom] kind"), "stopped")
    shown = console.export_text()
    for part in ("stopped (data)", "no [bottom] here", "[red]column[/red] 'x'", "What to do: set [bottom] kind"):
        assert part in shown


def test_a_defect_asks_for_a_report(console):
    show_error(InternalError("something impossible"), "stopped")
    assert "Please report this" in console.export_text()


def test_every_kind_of_error_has_its_own_exit_code():
    codes = [kind.exit_code for kind in all_error_types().values()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 130} & set(codes)


@pytest.mark.parametrize(("error", "code"), [(DataError("x"), 3), (KeyboardInterrupt(), 130)])
def test_errors_become_exit_codes(console, error, code):
    with pytest.raises(SystemExit) as raised, _as_exit(), reported():
        raise error
    assert raised.value.code == code


class _as_exit:  # noqa: N801  # reads as a statement
    """typer.Exit is made an exit by the command around it."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        raise SystemExit(error.exit_code)


def test_version():
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"vfl {PACKAGE_VERSION}\n")


@pytest.mark.parametrize(
    "arguments", [["demo", "--dataset", "iris"], ["demo", "--parties", "5"], ["demo", "--dataset", "motor"]]
)
def test_a_demo_that_does_not_exist_is_refused(console, arguments, tmp_path):
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "What to do:" in console.export_text()


@pytest.mark.parametrize("report", ["absent/outcome.json", "."])
def test_a_report_that_cannot_be_written_is_refused_before_the_job(console, federation, report):
    job = federation.write().path(COORDINATOR, "job.toml")
    result = CliRunner().invoke(app, ["run", str(job), "--report", str(federation.folder / report)])
    assert result.exit_code == 2
    assert "the report cannot be written" in console.export_text()


def test_a_report_that_can_no_longer_be_written_says_where_its_numbers_are(tmp_path):
    with pytest.raises(ConfigError, match="the run is finished") as raised:
        _write_report(RunResult("job-1"), tmp_path / "removed" / "outcome.json")
    assert raised.value.remedy == "'vfl runs show job-1 --json' has the same numbers"


def test_a_coordinator_keeps_its_logs_and_record_beside_the_job_file(federation):
    job = federation.write().path(COORDINATOR, "job.toml")
    federation.path(COORDINATOR, "coordinator.toml").unlink()
    settings = coordinator_settings(job, None)
    assert (settings.audit.directory, settings.runs.database) == (job.parent / "audit", job.parent / "runs.sqlite")


def test_mutual_tls_without_certificate_files_is_refused(console, federation):
    job = federation.write().path(COORDINATOR, "job.toml")
    federation.path(COORDINATOR, "coordinator.toml").unlink()
    assert CliRunner().invoke(app, ["run", str(job)]).exit_code == 2
    assert "set tls.ca, tls.certificate and tls.key in coordinator.toml" in console.export_text()


def test_json_logs_are_an_object_a_line(capsys):
    configure_logs(LogFormat.JSON, party="bank")
    get_logger("vfl").info("table loaded", rows=3)
    get_logger("vfl").error("failed", where="prepare")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["event"], first["rows"], first["party"], first["level"]) == ("table loaded", 3, "bank", "info")
    assert (second["level"], second["where"]) == ("error", "prepare")


def test_text_logs_are_a_line_an_event(capsys):
    configure_logs(LogFormat.TEXT, party="bank")
    get_logger("vfl").info("table loaded", rows=3)
    (line,) = capsys.readouterr().err.splitlines()
    assert "table loaded" in line
    assert "rows=3" in line


def test_progress_logs_a_line_an_epoch_with_speed(capsys):
    configure_logs(LogFormat.JSON)
    with ProgressBar(Console(stderr=True, force_terminal=False), epochs=2) as progress:
        progress.on_ready(Ready(100, 70, 2, ("clinic",), 0))
        progress.on_step(Step(1, Batch(Split.TRAIN, 0, 0), rows=32, loss=0.5, seconds=0.5, bytes_sent=1000))
        progress.on_epoch(Epoch(0, 2, {"epoch": 1.0, "loss": 0.54321}))
    ready, epoch = map(json.loads, capsys.readouterr().err.splitlines())
    assert (ready["aligned_rows"], ready["activation_gradients_to"]) == (100, ["clinic"])
    assert (epoch["event"], epoch["loss"], epoch["samples_per_second"]) == ("epoch 1/2", 0.5432, 64)


def test_a_metric_that_is_not_defined_is_null_in_the_report(federation, tmp_path):
    federation.write()
    outcome = {
        "run": "job-1",
        "party_rows": {"bank": 250, "clinic": 245},
        "rows": 240,
        "seconds_alignment": 0.5,
        "steps": 10,
        "trained_samples": 320,
        "seconds_setup": 1.0,
        "seconds_training": 2.0,
        "seconds_evaluation": 0.1,
        "training_bytes_sent": {"bank": 640, "clinic": 320},
        "certified_lipschitz": 1.0,
        "peak_memory": {"bank": 1, "clinic": 1},
    }
    results = [Comparison(name, {"auc": 0.5, "ks": float("nan")}, [0.7, 0.6]) for name in ("alone", "joint", "pooled")]
    setups = [load_party(federation.path(name)) for name in federation.names]
    report, curves = DemoResult("breast", setups, "auc", outcome, *results).write(tmp_path)
    content = json.loads(report.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert content["all_metrics"]["joint"] == {"auc": 0.5, "ks": None}
    assert content["bytes_per_sample"] == {"bank": 2.0, "clinic": 1.0}
    assert np.isclose(content["samples_per_second"], 160)
    assert curves.stat().st_size > 1000


def test_what_a_coordinator_imports_is_without_models_and_tables():
    """Half of the time that a coordinator took to start was torch, imported for the name of a signal's reason, and a
    fifth of the rest was polars, imported for the names of the demo's data sets."""
    imports = "vfl.cli.main, vfl.cli.signals, vfl.api.coordination, vfl.transport.grpc_network"
    code = f"import sys, {imports}; print({{'torch', 'tenseal', 'polars'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
