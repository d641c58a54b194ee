"""What the README tells people to run first runs as it stands."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from vfl.cli.main import app

EXAMPLES = Path(__file__).parents[2] / "examples"
SECONDS = 60


def test_the_quickstart_trains_a_joint_model_and_writes_the_files_of_processes(tmp_path, monkeypatch):
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "quickstart.py")],
        cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "AUC on rows nobody trained on: 0.9" in done.stdout
    assert "vfl run federation/job.toml" in done.stdout
    assert done.stderr == "", "a host program's standard error is its own"
    monkeypatch.chdir(tmp_path)
    checked = CliRunner().invoke(app, ["check", "federation/job.toml", "federation/telco/party.toml"])
    assert checked.exit_code == 0, checked.output


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook's own machinery
def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [str(EXAMPLES.parent), os.environ.get("PYTHONPATH")]))
    )
    notebook = nbformat.read(EXAMPLES / "quickstart.ipynb", as_version=4)
    NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (plotted,) = [cell for cell in notebook.cells if cell.source == "run.plot()"]
    assert any("image/png" in output.get("data", {}) for output in plotted.outputs)
