"""Whatever stops a party that writes a checkpoint, a disk or a signal, tears none."""

import errno
import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from support.federations.checkpoints import ORIGIN, RUN, same, snapshot, written

from vfl.checkpoints.config import CheckpointConfig
from vfl.checkpoints.store import CheckpointStore
from vfl.errors import CheckpointError


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    store = CheckpointStore(CheckpointConfig(directory=tmp_path / "file" / "checkpoints"), ORIGIN)
    with pytest.raises(CheckpointError, match="cannot be") as raised:
        store.write(snapshot(), 0, durable=False)
    assert "checkpoints.directory" in raised.value.remedy


def test_a_file_that_may_not_grow_is_a_full_disk_and_leaves_nothing(store_config):
    store, identity, path = written(store_config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(CheckpointError, match="the disk is full") as raised:
            store.write(snapshot(20), 0, durable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free disk space" in raised.value.remedy
    assert str(store_config.directory) not in raised.value.summary
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert same(store.load(identity), snapshot())


IN_A_SMALL_DISK = """
import subprocess, sys
import torch
from pathlib import Path
from support.federations.checkpoints import ORIGIN, files, same, snapshot
from vfl.errors import CheckpointError
from vfl.checkpoints.config import CheckpointConfig
from vfl.checkpoints.store import CheckpointStore, Snapshot
place = Path(sys.argv[1])
store = CheckpointStore(CheckpointConfig(directory=place), ORIGIN)
first = store.write(snapshot(), 0, durable=True)
large = Snapshot(20, {"w": torch.zeros(100_000)}, {})
try:
    store.write(large, 0, durable=True)
except CheckpointError as error:
    print(error.summary)
print(len(files(place)), same(store.load(first), snapshot()))
subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
try:
    store.write(snapshot(20), 0, durable=False)
except CheckpointError as error:
    print(error.summary)
print(len(files(place)), same(store.load(first), snapshot()))
"""


def test_a_full_and_a_read_only_disk(tmp_path):
    mounted = f'mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec "$@"'
    command = ["unshare", "-m", "sh", "-c", mounted, "sh"]
    if subprocess.run([*command, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a disk needs rights that this user does not have")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, sys.executable, "-c", IN_A_SMALL_DISK, str(tmp_path)],
        env=environment,
        check=True,
        capture_output=True,
    )
    assert done.stdout.decode().splitlines() == [
        "a checkpoint cannot be written: the disk is full",
        "2 True",
        "a checkpoint cannot be written",
        "2 True",
    ]


# --- whatever stops it ---

CALLS = ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir", "close")


class Stopper:
    """Counts the calls that change files, and does something else before one of them. Flushes nothing: that is slow."""

    def __init__(self, instead=None, at=-1):
        self.calls = []
        self._at = at
        self._instead = instead
        self._original = {name: getattr(os, name) for name in CALLS}

    def __enter__(self):
        for name in CALLS:
            setattr(os, name, self._wrapped(name))
        return self

    def __exit__(self, *_):
        for name, call in self._original.items():
            setattr(os, name, call)

    def _wrapped(self, name):
        def call(*arguments, **named):
            self.calls.append(name)
            if len(self.calls) - 1 == self._at:
                self._instead()
            return None if name == "fsync" else self._original[name](*arguments, **named)

        return call


WORK = ((1, 0, True), (2, 0, False), (2, 1, True), (2, 1, True), (3, 1, False))


def work(store_config):
    """What a run does with its checkpoints: durable and volatile ones, going back, repeating, pruning."""
    store = CheckpointStore(store_config.model_copy(update={"keep": 1}), ORIGIN)
    for step, attempt, durable in WORK:
        identity = store.write(value_of(step, attempt), attempt, durable=durable)
        yield identity
        store.commit(identity)
        yield identity


def value_of(step, attempt):
    return snapshot(step, float(10 * attempt + step))


def check_after(store_config, reported):
    """Whatever is held is whole; the last one that was reported, or one made after it, is held; the work can go on."""
    store = CheckpointStore(store_config, ORIGIN)
    held = store.held()
    for identity in held:
        assert same(store.load(identity), value_of(identity.step, identity.attempt))
    if reported:
        assert max((i.attempt, i.step) for i in held) >= (reported[-1].attempt, reported[-1].step)
    store.commit(store.write(snapshot(9), 9, durable=True))
    left = [path.name for path in (store_config.directory / RUN).iterdir()]
    assert not [name for name in left if name.startswith(".")]


def count_calls(store_config):
    with Stopper() as stopper:
        list(work(store_config))
    return len(stopper.calls)


def _full():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failure_of_any_call_leaves_whole_checkpoints(tmp_path):
    calls = count_calls(CheckpointConfig(directory=tmp_path / "counted"))
    assert calls > 50
    for at in range(calls):
        store_config = CheckpointConfig(directory=tmp_path / str(at))
        reported = []
        with Stopper(_full, at), suppress(CheckpointError):
            reported.extend(work(store_config))
        check_after(store_config, reported)


KILLED_AT_EVERY_CALL = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_checkpoint_writing import Stopper, check_after, count_calls, work
from vfl.ids import CheckpointId
from vfl.checkpoints.config import CheckpointConfig
place = Path(sys.argv[1])
calls = count_calls(CheckpointConfig(directory=place / "counted"))
for at in range(calls):
    store_config = CheckpointConfig(directory=place / str(at))
    read, write = os.pipe()
    report = os.fdopen(write, "w")
    if os.fork() == 0:
        with Stopper(lambda: os.kill(os.getpid(), signal.SIGKILL), at):
            for identity in work(store_config):
                print(identity.step, identity.attempt, identity.digest, file=report, flush=True)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
    report.close()
    lines = [line.split() for line in open(read)]
    check_after(store_config, [CheckpointId(int(step), int(attempt), digest) for step, attempt, digest in lines])
print(calls)
"""


def test_a_process_killed_at_any_call_leaves_whole_checkpoints(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path)], env=environment, check=True, capture_output=True
    )
    assert int(done.stdout) > 50


def test_what_is_durable_is_flushed_before_it_has_its_name_and_nothing_else_is(store_config):
    store = CheckpointStore(store_config, ORIGIN)
    store.write(snapshot(1), 0, durable=False)  # makes the directories, which are flushed in any case
    with Stopper() as stopper:
        identity = store.write(snapshot(2), 0, durable=False)
        store.commit(identity)
    assert "fsync" not in stopper.calls
    with Stopper() as stopper:
        identity = store.write(snapshot(3), 0, durable=True)
    flushed = [name for name in stopper.calls if name in ("fsync", "rename")]
    # Two renames: one that was prepared before, if any, goes aside first.
    assert flushed == ["fsync"] * 3 + ["rename"] * 2 + ["fsync"] * 2
    with Stopper() as stopper:
        store.commit(identity)
    assert [name for name in stopper.calls if name in ("fsync", "rename")][:3] == ["rename"] * 2 + ["fsync"]
