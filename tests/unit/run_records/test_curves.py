"""The picture of a run beside its report: drawn where matplotlib is installed, and missed by nobody elsewhere."""

import builtins
import importlib.util
import subprocess
import sys

import pytest
from support.logs import captured_logs

import vfl
from vfl.cli.main import _write_report
from vfl.errors import ConfigError
from vfl.run_records import curves
from vfl.run_records.curves import curves_png, draw_curves
from vfl.run_records.result import RunResult

HISTORY = [
    {"epoch": 1.0, "loss": 0.7, "validation_auc": 0.61},
    {"epoch": 2.0, "loss": 0.5, "validation_auc": 0.64, "best": 1.0},
    {"epoch": 4.0, "loss": 0.4},
]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def pictures_are_not_drawn():
    """Here they are."""


@pytest.fixture
def without_matplotlib(monkeypatch):
    find, imported = importlib.util.find_spec, builtins.__import__

    def absent(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name))
    monkeypatch.setattr(builtins, "__import__", absent)


def test_loss_and_validation_metrics_by_epoch_with_the_epoch_that_was_kept():
    loss, validation = draw_curves(HISTORY, "credit-1").axes
    ((line, kept), (scored, kept_too)) = (axes.get_lines() for axes in (loss, validation))
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1, 2, 4], [0.7, 0.5, 0.4])
    assert (list(scored.get_xdata()), scored.get_label()) == ([1, 2], "auc")
    assert list(kept.get_xdata()) == list(kept_too.get_xdata()) == [2, 2]
    assert loss.get_title() == "credit-1"


def test_the_coordinators_report_has_a_picture_beside_it(tmp_path):
    _write_report(RunResult("credit-1", history=HISTORY), tmp_path / "outcome.json")
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "link.json").symlink_to("/dev/null")
    _write_report(RunResult("credit-1", history=HISTORY), tmp_path / "other" / "link.json")
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["link.json"]


@pytest.mark.usefixtures("without_matplotlib")
def test_without_matplotlib_one_line_says_what_to_install(tmp_path):
    with captured_logs() as logs:
        _write_report(RunResult("credit-1", history=HISTORY), tmp_path / "outcome.json")
    assert [path.name for path in tmp_path.iterdir()] == ["outcome.json"]
    (told,) = logs
    assert (told["log_level"], told["remedy"]) == ("info", "pip install 'vfl[demo]'")
    with pytest.raises(ConfigError) as raised:
        vfl.Run(RunResult("credit-1", history=HISTORY)).plot()
    assert raised.value.remedy == told["remedy"]


def test_a_picture_that_cannot_be_drawn_ends_nothing(monkeypatch):
    def fails(*_):
        raise OSError("no space for the cache of fonts")

    monkeypatch.setattr(curves, "_png", fails)
    with captured_logs() as logs:
        assert curves_png(HISTORY, "credit-1") is None
    assert [event["log_level"] for event in logs] == ["warning"]


def test_nothing_here_imports_matplotlib_before_a_picture_is_drawn():
    """At the active party, torchmetrics does."""
    modules = "import sys, vfl.cli.main, vfl.coordinator.process, vfl.run_records.curves"
    code = f"{modules}; sys.exit(any(name.partition('.')[0] == 'matplotlib' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
