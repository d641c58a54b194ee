"""Helper processes do not get keys and passphrases, whatever the variables are called."""

import subprocess
import sys

from vfl.align.pool import BlindingPool
from vfl.data.sources import parquet_check
from vfl.runtime.helper_processes import helper_environment

SECRETS = {"VFL_PASSPHRASE": "horse", "MY_CHECKPOINT_KEY": "5a" * 32, "key": "x", "AWS_SECRET_ACCESS_KEY": "y"}


def test_only_what_helpers_need_is_passed_on(monkeypatch):
    for name, value in {**SECRETS, "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    environment = helper_environment()
    assert not set(SECRETS) & set(environment)
    assert (environment["LC_ALL"], environment["OMP_NUM_THREADS"]) == ("C.UTF-8", "1")
    shown = subprocess.run(
        [sys.executable, "-P", "-c", "import os, vfl; print(*os.environ)"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert shown.returncode == 0, shown.stderr
    assert not set(SECRETS) & set(shown.stdout.split())


def test_every_helper_is_started_with_that_environment(monkeypatch, tmp_path):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    given, run, popen = [], subprocess.run, subprocess.Popen
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: given.append(k["env"]) or run(*a, **k))
    parquet_check.why_unreadable(tmp_path / "none.parquet")
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: given.append(k["env"]) or popen(*a, **k))
    with BlindingPool(1) as pool:
        pool._start()
    assert len(given) >= 2
    assert not any(set(SECRETS) & set(environment) for environment in given)
