"""Checkpoints and files that were damaged, exchanged or changed while every process was down."""

from __future__ import annotations

import copy
import shutil
import threading
import time

import pytest
from support import virtual_time
from support.faults.recovering import Watcher, coordinator_here, run_here, small_federation, undisturbed_weights
from support.federations.federation import ACTIVE, COORDINATOR, differing
from support.logs import logged

from vfl.checkpoints.store import CheckpointStore
from vfl.run_records.store import RunStore

CLINIC = "clinic"


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


@pytest.fixture(scope="session")
def stopped_once(tmp_path_factory):
    """A run that its operator stopped after seven steps."""
    federation = small_federation(tmp_path_factory.mktemp("stopped")).write()
    ended = virtual_time.run(run_here(federation, stop_at=7))
    assert {error.code for error in ended.errors.values()} == {"aborted"}
    return federation


@pytest.fixture
def stopped(stopped_once, tmp_path):
    """Files of its own of such a run. Only the certificates, which nobody changes, stay where they are."""
    federation = copy.copy(stopped_once)
    federation.folder = tmp_path
    shutil.copytree(stopped_once.folder, tmp_path, dirs_exist_ok=True)
    return federation


def resume(federation):
    watcher = Watcher()
    return virtual_time.run(run_here(federation, watcher, resume=True)), watcher


def checkpoints_of(federation, name):
    """Newest first."""
    (run,) = federation.path(name, "checkpoints").iterdir()
    return sorted((path for path in run.iterdir()), reverse=True)


STATE, MANIFEST = "state.safetensors", "manifest.json"
FULL = pytest.mark.faults_full


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        (CLINIC, STATE, flip),
        (ACTIVE, MANIFEST, empty),
        pytest.param(ACTIVE, STATE, flip, marks=FULL),
        pytest.param(ACTIVE, STATE, truncate, marks=FULL),
        pytest.param(CLINIC, STATE, empty, marks=FULL),
        pytest.param(CLINIC, MANIFEST, flip, marks=FULL),
    ],
)
def test_all_parties_go_back_to_the_newest_checkpoint_that_is_whole_everywhere(stopped, name, file, damage):
    newest, older, *_ = checkpoints_of(stopped, name)
    damage(newest / file)
    ended, watcher = resume(stopped)
    assert ended.errors == dict.fromkeys(ended.errors)
    (gone_back,) = watcher.told("resuming from a checkpoint")
    assert gone_back["step"] == int(older.name.partition("-")[0]) < int(newest.name.partition("-")[0])
    assert differing(stopped.everything_saved(), undisturbed_weights()) == []


def test_a_party_still_reading_a_checkpoint_that_another_has_lost_ends_up_with_the_older_one(stopped, monkeypatch):
    with RunStore(stopped.path(COORDINATOR, "runs.sqlite")) as store:
        newest = store.runs()[0].step
    (lost,) = stopped.path(CLINIC, "checkpoints").glob(f"*/{newest:08}-0*")
    flip(lost / STATE)
    load, older_is_read = CheckpointStore.load, threading.Event()

    def slowly(self, identity):
        if self._origin.party == ACTIVE and identity.step == newest and older_is_read.wait(2.0):
            time.sleep(0.02)  # in which the older one is taken, and nothing is built of it yet
        snapshot = load(self, identity)
        if self._origin.party == ACTIVE and identity.step != newest:
            older_is_read.set()
        return snapshot

    monkeypatch.setattr(CheckpointStore, "load", slowly)
    ended, watcher = resume(stopped)
    assert ended.errors == dict.fromkeys(ended.errors)
    assert watcher.told("interrupted") == []
    assert differing(stopped.everything_saved(), undisturbed_weights()) == []


def test_another_private_seed_is_refused_by_name(stopped):
    stopped.path(CLINIC, "private_seed").write_text("ab" * 32, encoding="ascii")
    ended, _ = resume(stopped)
    assert ended.errors[CLINIC].code == "checkpoint"
    assert "the private seed is not the one the run began with" in ended.errors[COORDINATOR].summary


@pytest.mark.parametrize(("old", "new"), [("hidden = [", "embedding_width = 3\nhidden = ["), ("1e-4", "1e-3")])
def test_another_bottom_or_optimizer_is_refused_by_name(tmp_path, old, new):
    federation = small_federation(tmp_path)
    federation.parties[CLINIC]["optimizer"] = {"name": "adam", "learning_rate": 1e-4}
    ended = virtual_time.run(run_here(federation.write(), stop_at=7))
    assert {error.code for error in ended.errors.values()} == {"aborted"}
    rewrite(federation.path(CLINIC), old.replace("1e-4", "0.0001"), new)
    ended, _ = resume(federation)
    assert ended.errors[CLINIC].code == "checkpoint"
    assert "[bottom] or [optimizer] is not what the run began with" in ended.errors[COORDINATOR].summary


def test_a_run_without_any_whole_checkpoint_is_refused_by_name(stopped):
    for path in checkpoints_of(stopped, CLINIC):
        flip(path / "state.safetensors")
    ended, watcher = resume(stopped)
    error = ended.errors[COORDINATOR]
    assert error.code == "checkpoint"
    assert "none that all parties still have intact" in error.summary
    told = watcher.told("a checkpoint cannot be used")
    assert {event["reason"] for event in told} == {"clinic: a checkpoint is damaged"}
    assert ended.errors[CLINIC].code == "checkpoint"
    assert "none that all parties still have intact" in ended.errors[ACTIVE].summary


def test_checkpoints_of_another_party_are_refused_by_name(stopped, logs):
    for theirs, own in zip(checkpoints_of(stopped, ACTIVE), checkpoints_of(stopped, CLINIC), strict=True):
        shutil.rmtree(own)
        shutil.copytree(theirs, own)
    ended, _ = resume(stopped)
    assert ended.errors[COORDINATOR].code == "checkpoint"
    assert "none that all parties still have intact" in ended.errors[COORDINATOR].summary
    assert "a checkpoint belongs to another party" in logged(logs)


def test_checkpoints_of_another_job_are_refused_by_name(stopped, tmp_path, logs):
    (tmp_path / "other").mkdir()
    other = small_federation(tmp_path / "other")
    other.job["seed"] = 12
    other.write()
    virtual_time.run(run_here(other, stop_at=7))
    for theirs, own in zip(checkpoints_of(other, CLINIC), checkpoints_of(stopped, CLINIC), strict=True):
        shutil.rmtree(own)
        shutil.copytree(theirs, own)
    ended, _ = resume(stopped)
    assert ended.errors[COORDINATOR].code == "checkpoint"
    assert "a checkpoint belongs to another run" in logged(logs)


def rewrite(path, old, new):
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_another_job_file_is_refused_and_its_tables_named(stopped):
    for name in (*stopped.names, COORDINATOR):
        rewrite(stopped.path(name, "job.toml"), "learning_rate = 0.5", "learning_rate = 0.25")
    before = checkpoints_of(stopped, CLINIC)
    error = virtual_time.run(coordinator_here(stopped, resume=True))  # refuses before anybody is asked
    assert error.code == "mismatch"
    assert error.summary.endswith("was started with different files: they differ in interaction")
    assert checkpoints_of(stopped, CLINIC) == before


def test_another_job_file_at_one_party_is_refused_and_its_tables_named(stopped):
    rewrite(stopped.path(CLINIC, "job.toml"), "learning_rate = 0.5", "learning_rate = 0.25")
    ended, _ = resume(stopped)
    assert "differs from the coordinator's in: interaction" in ended.errors[COORDINATOR].summary


@pytest.mark.parametrize("name", [CLINIC, pytest.param(ACTIVE, marks=FULL)])
def test_a_table_that_has_changed_is_refused(stopped, name):
    path = stopped.path(name, "table.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = [lines[0], *(",".join([*line.split(",")[:1], "0.125", *line.split(",")[2:]]) for line in lines[1:])]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    ended, _ = resume(stopped)
    error = ended.errors[COORDINATOR]
    assert error.summary == f"{name}: the table has changed since the checkpoint was taken"
    assert ended.errors[name].code == "checkpoint"
