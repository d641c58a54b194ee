"""The wall clock of one process jumps: nothing times out or hangs, for every deadline is measured by another clock."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from support import faults
from support.faults.recovering import small_federation, undisturbed_weights
from support.federations.federation import ACTIVE, COORDINATOR, Processes, differing

from vfl.pki.issuing import authority
from vfl.pki.issuing import throwaway as certificates

CLINIC = "clinic"
HOUR, YEAR = 3600, 365 * 24 * 3600
SOURCE = Path(faults.__file__).parent / "shifted_clock.c"


class Clock:
    """The wall clock of processes that get ``environment``."""

    def __init__(self, folder):
        library, self._shift = folder / "clock.so", folder / "shift"
        compiler = shutil.which("gcc") or shutil.which("cc")
        if compiler is None or sys.platform != "linux":
            pytest.skip("there is no C compiler for the library that shifts the clock")
        subprocess.run([compiler, "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"], check=True)
        self.environment = {"LD_PRELOAD": str(library), "VFL_TEST_CLOCK": str(self._shift)}
        self.set(0)

    def set(self, seconds):
        """Be off by so many seconds from now on."""
        draft = self._shift.with_suffix(".draft")
        draft.write_text(str(seconds), encoding="ascii")
        draft.replace(self._shift)


@pytest.fixture
def clock(tmp_path):
    return Clock(tmp_path)


@pytest.fixture
def long_valid(monkeypatch):
    """Certificates that hold years before and after today."""
    monkeypatch.setattr(authority, "_CLOCK_SKEW", timedelta(days=2 * 365))
    monkeypatch.setattr(certificates, "VALID_DAYS", 2 * 365.0)


def test_the_library_shifts_the_wall_clock_and_no_other(clock):
    clock.set(YEAR)
    code = "import time; print(time.time(), time.monotonic(), time.perf_counter())"
    shown = subprocess.run([sys.executable, "-c", code], env=clock.environment, capture_output=True, check=True)
    wall, monotonic, counter = map(float, shown.stdout.split())
    assert abs(wall - time.time() - YEAR) < 60
    assert 0 <= time.monotonic() - monotonic < 60
    assert 0 <= time.perf_counter() - counter < 60


def run_with_jumps(folder, clock, name, jumps, epochs):
    federation = small_federation(folder, epochs)
    federation.job["timeouts"] |= {"progress": 20.0, "reconnect": 20.0}
    with Processes(federation.write()) as processes:
        processes.environment_of[name] = clock.environment
        processes.start()
        for epoch, seconds in jumps.items():
            processes.wait_for(COORDINATOR, f"epoch {epoch}/{epochs}")
            clock.set(seconds)
        codes = processes.wait(100)
        assert codes == dict.fromkeys(codes, 0), processes.output(COORDINATOR)
        assert "interrupted" not in processes.output(COORDINATOR)
    assert differing(federation.everything_saved(), undisturbed_weights(epochs)) == []


@pytest.mark.parametrize(
    "name",
    [
        CLINIC,
        COORDINATOR,
        ACTIVE,
    ],
)
@pytest.mark.faults_full
@pytest.mark.usefixtures("long_valid")
def test_jumps_of_hours_and_years_change_nothing(tmp_path, clock, name):
    (tmp_path / "run").mkdir()
    run_with_jumps(tmp_path / "run", clock, name, {1: HOUR, 3: -HOUR, 5: YEAR, 7: -YEAR}, epochs=10)


@pytest.mark.faults_full
def test_certificates_that_look_expired_after_a_jump_are_named(tmp_path, clock):
    (tmp_path / "run").mkdir()
    federation = small_federation(tmp_path / "run", epochs=200)
    federation.job["timeouts"] |= {"reconnect": 10.0}
    with Processes(federation.write()) as processes:
        processes.environment_of[CLINIC] = clock.environment
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/200")
        clock.set(YEAR)
        codes = processes.wait(60)
        assert 0 not in codes.values()
        for name in (CLINIC, COORDINATOR):
            assert "certificate" in processes.output(name)
        assert "not valid now" in processes.output(CLINIC) or "expired" in processes.output(CLINIC)
