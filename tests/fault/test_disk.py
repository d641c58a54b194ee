"""Disks that are full, read-only or gone while a job runs."""

from __future__ import annotations

import errno
import shutil

import pytest
from support import virtual_time
from support.faults.recovering import Watcher, run_here, small_federation, undisturbed_weights
from support.faults.small_disk import small_disk
from support.federations.federation import ACTIVE, COORDINATOR, differing
from support.logs import logged

from vfl.checkpoints.directory import CheckpointDirectory

CLINIC = "clinic"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture
def federation(tmp_path):
    (tmp_path / "federation").mkdir()
    return small_federation(tmp_path / "federation")


def run(federation, at=None, **options):
    watcher = Watcher(at)
    return virtual_time.run(run_here(federation, watcher, **options)), watcher


def all_finished(ended):
    return ended.errors == dict.fromkeys(ended.errors)


@pytest.mark.parametrize("fault", ["full", "read-only"])
def test_a_checkpoint_that_cannot_be_written_is_told_and_the_run_goes_on(federation, disk, logs, fault):
    federation.parties[CLINIC]["checkpoints"] = {"directory": str(disk.path)}
    federation.write()
    breaks, mends = (disk.fill, disk.free) if fault == "full" else (disk.make_read_only, disk.make_writable)
    ended, watcher = run(federation, {1: breaks, 5: mends})
    assert all_finished(ended)
    assert differing(federation.everything_saved(), undisturbed_weights()) == []
    failures = watcher.told("no checkpoint")
    assert failures
    expected = "clinic: a checkpoint cannot be written" + (": the disk is full" if fault == "full" else "")
    for failure in failures:
        assert failure["reason"] == expected
        assert "checkpoints.directory" in failure["remedy"]
    assert [failure["step"] for failure in failures] == [2, 5], "those of steps 6 and later are written again"
    assert "code=checkpoint" in logged(logs)


def test_a_checkpoint_that_cannot_be_committed_is_told_and_the_run_goes_on(federation, monkeypatch):
    promote, refused = CheckpointDirectory.promote, []

    def full_once(self, entry):
        if entry.step and not refused:
            refused.append(entry.step)
            raise OSError(errno.ENOSPC, "No space left on device")
        promote(self, entry)

    monkeypatch.setattr(CheckpointDirectory, "promote", full_once)
    federation.write()
    ended, watcher = run(federation)
    assert all_finished(ended)
    assert [failure["step"] for failure in watcher.told("no checkpoint")] == refused


def test_a_failed_checkpoint_is_not_what_a_later_stop_is_put_down_to(federation, disk):
    federation.parties[CLINIC]["checkpoints"] = {"directory": str(disk.path)}
    federation.write()
    ended, watcher = run(federation, {1: disk.fill}, stop_at=4)
    assert watcher.told("no checkpoint")
    assert ended.errors[CLINIC].code == "aborted"
    assert "stopped by the operator" in ended.errors[CLINIC].summary


def test_a_run_that_cannot_write_its_first_checkpoint_ends(federation, disk):
    federation.parties[CLINIC]["checkpoints"] = {"directory": str(disk.path)}
    federation.write()
    disk.fill()
    ended, watcher = run(federation)
    assert ended.errors[COORDINATOR].summary == "clinic: a checkpoint cannot be written: the disk is full"
    assert ended.errors[CLINIC].code == "checkpoint"
    assert ended.errors[ACTIVE].code == "aborted"
    assert watcher.steps == 0


def test_a_checkpoint_directory_that_is_removed_is_made_again(federation):
    federation.write()
    directory = federation.path(CLINIC, "checkpoints")
    seen = []

    def remove():
        seen.extend(directory.rglob("manifest.json"))
        shutil.rmtree(directory)

    ended, _ = run(federation, {3: remove, 5: lambda: seen.append(directory.exists())})
    assert all_finished(ended)
    assert len(seen) > 1
    assert seen[-1] is True
    assert differing(federation.everything_saved(), undisturbed_weights()) == []


@pytest.mark.parametrize("name", [CLINIC, COORDINATOR])
def test_an_audit_log_that_cannot_be_written_ends_the_job_by_name(federation, disk, name):
    if name == COORDINATOR:
        federation.coordinator["audit"] = {"directory": str(disk.path)}
    else:
        federation.parties[name]["audit"] = {"directory": str(disk.path)}
    federation.write()
    ended, _ = run(federation, {4: disk.fill})
    assert ended.errors[name].code == "audit"
    assert all(error is not None for error in ended.errors.values())
    assert "the audit log cannot be written" in ended.errors[ACTIVE].summary
    disk.free()
    ended, _ = run(federation, resume=True)
    assert all_finished(ended)
    assert differing(federation.everything_saved(), undisturbed_weights()) == []


@pytest.mark.parametrize("name", [ACTIVE, CLINIC])
def test_a_model_that_cannot_be_saved_is_saved_after_there_is_room(federation, disk, name):
    federation.write()
    output = federation.path(name, "model")
    output.symlink_to(disk.path)
    ended, _ = run(federation, {9: disk.fill})
    assert ended.errors[name].code == "config"
    assert ended.errors[name].summary == "the trained model cannot be saved"
    assert ended.errors[COORDINATOR].summary == f"{name}: the trained model cannot be saved"
    assert "--resume" in ended.errors[COORDINATOR].remedy
    assert not [path for path in output.rglob("*") if path.is_file() and path.name != "filler"]
    disk.free()
    ended, watcher = run(federation, resume=True)
    assert all_finished(ended)
    assert watcher.steps == 0, "everything was trained already"
    assert differing(federation.everything_saved(), undisturbed_weights()) == []


def test_a_record_of_runs_that_cannot_be_written_ends_the_run_by_name(federation, disk):
    federation.coordinator["runs"] = {"database": str(disk.path / "runs.sqlite")}
    federation.write()
    ended, _ = run(federation, {4: disk.fill})
    assert ended.errors[COORDINATOR].code == "checkpoint"
    for name in (ACTIVE, CLINIC):
        assert ended.errors[COORDINATOR].summary in ended.errors[name].summary
    disk.free()
    ended, _ = run(federation, resume=True)
    assert all_finished(ended)
    assert differing(federation.everything_saved(), undisturbed_weights()) == []


def test_a_record_of_runs_that_cannot_be_written_does_not_hide_why_the_run_ended(federation, disk, logs):
    federation.coordinator["runs"] = {"database": str(disk.path / "runs.sqlite")}
    federation.write()
    ended, _ = run(federation, {3: disk.fill}, stop_at=4)
    assert ended.errors[COORDINATOR].code == "aborted"
    assert "the end of the run could not be recorded" in logged(logs)
