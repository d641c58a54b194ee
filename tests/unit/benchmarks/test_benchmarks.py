"""Every benchmark runs on tiny shapes and says what it should. No timing is asserted anywhere."""

import io
import json
import math

import numpy as np
import pytest
from rich.console import Console
from support.federations.quick_processes import QuickProcesses

from benchmarks.arithmetic import kernels, scaling, step
from benchmarks.arithmetic.layers import ACTIVE, PHASE_NAMES, EncryptedLayer
from benchmarks.effort import FULL, QUICK, Effort, Shape, Sweeps, SystemCase
from benchmarks.reporting import plots, report
from benchmarks.reporting.findings import Findings, Ratio, Row, at_least, at_most
from benchmarks.systems import alignment, connections, federation, memory, system
from benchmarks.timing import side_by_side

pytest.importorskip("phe", reason="the Paillier peer needs the extra 'bench'")

TINY = Effort(
    flat_steps=0,
    name="tiny",
    kernel=Shape(64, 4, 4),
    repeats=1,
    ckks_rows=64,
    paillier_bits=256,
    paillier_rows=2,
    paillier_outputs=3,
    system=(SystemCase(Shape(64, 4, 4), 5, 2, 1.0),),
    sweeps=Sweeps(Shape(64, 4, 4), (32, 64), (2, 4), (2, 4), (1, 2), 1),
    epochs=1,
    alignment_ids=200,
    connections=2,
)


def _row(**changes: object) -> Row:
    values = {"section": "a", "what": "it", "measured": 2.0, "unit": "s"} | changes
    return Row(**values)


def test_ratio_and_verdict_follow_from_measured_reference_and_target():
    faster = {"against": "peer", "reference": 20.0, "means": Ratio.FASTER}
    slower = {"against": "peer", "reference": 0.5}
    assert _row(**faster).ratio == 10
    assert _row(**slower).ratio == 4
    assert [_row(**faster, target=at_least(bound)).met for bound in (8, 11)] == [True, False]
    assert [_row(**slower, target=at_most(bound)).met for bound in (5, 3)] == [True, False]
    assert [_row(target=at_most(bound)).met for bound in (3, 1)] == [True, False]
    assert _row(target=at_most(4)).ratio == 0.5
    assert (_row().met, _row().ratio) == (None, None)


def test_actions_take_turns():
    calls: list[str] = []
    times = side_by_side({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=2)
    assert "".join(calls) == "ababab"
    assert [len(timing.seconds) for timing in times.values()] == [2, 2]


def test_kernels():
    findings = kernels.run(TINY)
    assert [row.target is not None for row in findings.rows[:4]] == [True, True, False, True]
    assert all(row.measured > 0 for row in findings.rows)
    assert "exact" in findings.rows[0].note


@pytest.mark.parametrize("name", ["times_matrix", "transposed_times"])
def test_a_kernel_that_is_not_exact_gets_no_row(name: str, monkeypatch: pytest.MonkeyPatch):
    right = getattr(kernels, name)
    monkeypatch.setattr(kernels, name, lambda *arguments: right(*arguments).flip(-1))
    with pytest.raises(RuntimeError, match="not exact"):
        kernels.run(TINY)


def test_step_has_every_phase_and_the_paillier_peer():
    findings = step.run(TINY)
    assert list(findings.series["phases"]) == list(PHASE_NAMES)
    assert all(phase["seconds"] > 0 and phase["bytes"] > 0 for phase in findings.series["phases"].values())
    assert findings.rows[-1].reference is not None


def test_step_log_adds_up_by_phase_and_by_party():
    log = EncryptedLayer(Shape(64, 4, 4), passive=2).step()
    parties = {work.party for work in log.work}
    assert parties == {ACTIVE, "passive0", "passive1"}
    assert sum(log.seconds(party=party) for party in parties) == pytest.approx(log.seconds())
    assert sum(log.sent(phase) for phase in PHASE_NAMES) == log.sent()
    assert log.sent("F1", ACTIVE) == 0 < log.sent("F1", "passive0")
    assert log.messages("B1") == 1
    assert log.messages("F1") == 2


def test_scaling():
    findings = scaling.run(TINY)
    growth = findings.series["scaling"]
    assert list(growth) == ["batch", "d", "K", "passive parties (active)", "passive parties (all)"]
    assert all(math.isfinite(axis["exponent"]) for axis in growth.values())
    once = next(row for row in findings.rows if "encryption of the gradient" in row.what)
    assert (once.measured, once.met) == (1, True)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_the_exponent_is_that_of_the_power_law(exponent: float):
    values = [1, 2, 4, 8]
    growth = scaling.Growth("n", values, [3 * value**exponent for value in values], "s")
    assert growth.exponent == pytest.approx(exponent)


def test_memory_growth_leaves_the_start_out_and_sees_a_leak():
    flat = [10, 50, *[100] * 18]
    assert memory.growth(flat) == 0
    assert memory.growth([100 + step for step in range(100)]) > memory.MAX_GROWTH
    with pytest.raises(ValueError, match="fewer than five"):
        memory.growth([1, 2])


@pytest.fixture
def quick_processes(monkeypatch):
    monkeypatch.setattr(federation, "FederationProcesses", QuickProcesses)


@pytest.mark.usefixtures("quick_processes")
def test_connections_with_and_without_a_proof():
    findings = connections.run(TINY)
    assert [(row.section, row.unit, row.target is None) for row in findings.rows] == [
        ("g", "ms", False), ("g", "ms", True),
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("quick_processes")
def test_alignment_over_processes():
    findings = alignment.run(TINY, peer=False)
    assert [row.section for row in findings.rows] == ["f"]
    assert findings.rows[0].measured > 0


def test_a_peer_that_cannot_be_installed_is_skipped_with_a_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(alignment, "PEER_FOLDER", tmp_path / "file" / "venv")
    (tmp_path / "file").touch()
    (reason,) = alignment._beside_peer(10, 1.0).skipped
    assert "openmined-psi, one core: cannot be installed or run" in reason


@pytest.mark.slow
@pytest.mark.usefixtures("quick_processes")
def test_whole_system_over_processes(tmp_path):
    findings = system.run(TINY, tmp_path)
    assert {row.section for row in findings.rows} == {"b", "c", "e"}
    assert "default_credit" in findings.skipped[0]
    traffic = findings.series["bytes"]["64x4x4"]
    assert all(sent > 0 for senders in traffic.values() for sent in senders.values())
    peaks = [row for row in findings.rows if "peak memory" in row.what]
    growths = [row for row in findings.rows if "growth of the memory" in row.what]
    assert len(peaks) == len(growths) == 2


def test_report_as_json_and_plots(tmp_path):
    growth = {"values": [1, 2], "costs": [1.0, 2.0], "unit": "s", "exponent": 1.0}
    series = {
        "phases": {"F1": {"seconds": 1.0, "bytes": 2}},
        "scaling": {"d": growth},
        "bytes": {"x": {"p": {"a": 1.0}}},
    }
    findings = Findings([_row(), _row(measured=math.inf)], [], series)
    report.write_json(tmp_path / "out.json", findings, {"cores": 2}, "tiny", 1.0)
    content = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [row["measured"] for row in content["rows"]] == [2, None]
    assert content["machine"] == {"cores": 2}
    written = plots.write(series, tmp_path / "out")
    assert [path.name for path in written] == ["out-phases.png", "out-scaling.png", "out-bytes.png"]
    assert all(path.stat().st_size for path in written)


def test_table_shows_target_ratio_and_verdict():
    console = Console(record=True, width=160, file=io.StringIO())
    missed = _row(against="peer", reference=0.5, target=at_most(3), note="[of] three")
    report.show(console, Findings([missed], ["something"]), {"cores": 2})
    text = console.export_text()
    for words in ("(a) kernels", "4.00x", "at most 3.00x", "no", "[of] three", "skipped: something", "0 of 1 targets"):
        assert words in text


@pytest.mark.parametrize(("value", "text"), [(0.001234, "0.00123"), (12345.6, "12,346"), (7.04, "7.04"), (0, "0")])
def test_numbers_have_three_digits(value: float, text: str):
    assert report.number(value) == text


def test_quick_and_full_measure_targets_at_the_same_shapes():
    assert QUICK.kernel == FULL.kernel == QUICK.system[0].shape
    assert [case.shape for case in QUICK.system] == [case.shape for case in FULL.system]
    assert [case.target for case in QUICK.system] == [case.target for case in FULL.system] == [6000, 3000, 1000]
    assert np.all(np.diff(QUICK.sweeps.rows) > 0)
