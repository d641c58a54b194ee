"""Exactly what users run first: ``vfl demo``, from the command line, over real processes.

What only its options change runs the command in this process, and starts the others quickly.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from support.federations.federation import PATIENCE, processes_of
from support.federations.quick_processes import QuickProcesses
from typer.testing import CliRunner

from vfl.cli.demo import processes
from vfl.cli.demo.federation import PRICE
from vfl.cli.main import app

KEYS = {
    "dataset",
    "task",
    "metric",
    "rows",
    "active_only",
    "joint_encrypted",
    "pooled_plain",
    "seconds_setup",
    "seconds_training",
    "steps",
    "samples_per_second",
    "bytes_per_sample",
    "certified_lipschitz",
    "parties",
}
PNG = b"\x89PNG\r\n\x1a\n"
TABLES = Path(os.environ.get("VFL_DATA", Path(__file__).parents[3] / "shared" / "data"))


def _start(out, *arguments, **options):
    command = [sys.executable, "-m", "vfl", "demo", "--out", f"{out}/", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)


def _report(out, *arguments):
    with _start(out, *arguments) as demo:
        output, _ = demo.communicate(timeout=2 * PATIENCE)
    assert demo.returncode == 0, output
    assert not processes_of(out)
    return json.loads((out / "report.json").read_text(encoding="utf-8")), output


def _run_here(out, *arguments):
    done = CliRunner().invoke(app, ["demo", "--out", f"{out}/", *arguments])
    assert done.exit_code == 0, done.output
    assert not processes_of(out)
    return done.output


@pytest.mark.slow
def test_the_built_in_demo_shows_what_joining_brings(tmp_path):
    report, output = _report(tmp_path)
    assert report.keys() >= KEYS
    assert report["labels_inferred"] == {}, "nobody receives a gradient"
    assert (report["dataset"], report["task"], report["metric"]) == ("breast", "binary", "auc")
    assert report["party_rows"] == {"bank": 512, "clinic": 512}
    assert 455 <= report["rows"] < 512  # each party dropped other rows
    assert report["joint_encrypted"] >= 0.95
    # So few rows show the noise on Z, which the clear one has none of: between 0.965 and 0.985 for other draws.
    assert report["active_only"] < report["joint_encrypted"] <= report["pooled_plain"] + 0.01
    assert report["pooled_plain"] >= 0.97
    assert 0.99 < report["certified_lipschitz"] <= 1.0 + 1e-4
    assert [party["name"] for party in report["parties"]] == ["bank", "clinic"]
    assert set(report["bytes_per_sample"]) == {"bank", "clinic"}
    for name in ("seconds_setup", "seconds_training", "steps", "samples_per_second"):
        assert report[name] > 0
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    for word in ("active party alone", "joint, encrypted", "pooled, in the clear", "samples/s", "certified"):
        assert word in output


@pytest.mark.slow
def test_trainable_bottoms_come_with_a_word_about_their_price(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "FederationProcesses", QuickProcesses)
    output = _run_here(tmp_path, "--trainable", "--epochs", "4")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert PRICE in output
    assert report["steps"] == 4 * 5
    assert report["joint_encrypted"] >= 0.95
    assert abs(report["joint_encrypted"] - report["pooled_plain"]) <= 0.03
    assert 0.9 < report["all_metrics"]["joint, default"]["auc"] < 1
    price = report["labels_inferred"]["clinic"]
    assert price["auc"] > 0.9 > price["by_chance"]
    assert f"an AUC of {price['auc']:.3f}" in output


def test_full_overlap_gives_every_row_to_all(tmp_path):
    _run_here(tmp_path, "--overlap", "1.0", "--only-write")
    bank, clinic = (pl.read_csv(tmp_path / f"{name}.csv")["id"] for name in ("bank", "clinic"))
    assert set(bank) == set(clinic)
    assert len(set(bank)) == len(bank) == len(clinic) == 569


def test_ctrl_c_in_the_demo_leaves_no_process(tmp_path):
    with _start(tmp_path, "--epochs", "1000", env={**os.environ, "COLUMNS": "1000"}) as demo:
        lines = []
        for line in demo.stdout:
            lines.append(line)
            if "epoch 1/" in line:
                demo.send_signal(signal.SIGINT)
                break
        output = "".join([*lines, demo.stdout.read()])
        assert demo.wait(PATIENCE) not in (0, None)
    assert "stopped by the operator during" in output
    assert "the demo was stopped by the operator" in output
    assert "Traceback" not in output
    deadline = time.monotonic() + 1
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not processes_of(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not (TABLES / "motor_hetero_guest.csv").exists(), reason=f"no tables in {TABLES}; set VFL_DATA")
def test_three_parties_learn_the_motors_speed(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "FederationProcesses", QuickProcesses)
    _run_here(tmp_path, "--data", str(TABLES), "--dataset", "motor", "--parties", "3")
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["metric"] == "r2"
    assert report["joint_encrypted"] >= 0.92
    assert report["active_only"] < 0.5
    assert abs(report["joint_encrypted"] - report["pooled_plain"]) <= 0.04
    assert len(report["parties"]) == 3
    assert report["rows"] < min(report["party_rows"].values()) == 720
