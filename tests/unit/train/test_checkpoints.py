"""Checkpoints on disk: they come back exactly, or are refused by name; whatever stops the process tears none."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import save

from vfl.configuration import load_toml
from vfl.errors import CheckpointError, ConfigError
from vfl.ids import CheckpointId
from vfl.train import checkpoint_state
from vfl.train.checkpoint_directory import Entry, superseded
from vfl.train.checkpoint_manifest import Manifest
from vfl.train.checkpoints import CheckpointConfig, CheckpointStore, Origin, Snapshot

RUN = "credit-1a2b3c4d"
ORIGIN = Origin(RUN, "model=aa,split=bb,training=cc", "clinic")
KEY = "VFL_TEST_CHECKPOINT_KEY"


@pytest.fixture
def config(tmp_path):
    return CheckpointConfig(directory=tmp_path / "checkpoints")


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def either(request, config, monkeypatch):
    """A configuration without and with a key."""
    monkeypatch.setenv(KEY, "5a" * 32)
    return config.model_copy(update={"key_variable": KEY if request.param else None})


def snapshot(step=10, value=1.0):
    weights = torch.full((4, 3), value, dtype=torch.float64)
    tensors = {"bottom.w": weights, "bottom.tied": weights, "w^T": weights.T, "adam.step": torch.tensor(7)}
    tensors |= {"shares": torch.arange(5), "none": torch.empty(0, 3), "flag": torch.tensor([True])}
    return Snapshot(step, tensors, {"preprocessing": '{"städte": ["Köln"]}', "empty": ""})


def same(one, other):
    return (
        one.step == other.step
        and dict(one.facts) == dict(other.facts)
        and one.tensors.keys() == other.tensors.keys()
        and all(torch.equal(value, other.tensors[name]) for name, value in one.tensors.items())
        and all(value.dtype == other.tensors[name].dtype for name, value in one.tensors.items())
    )


def files(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def written(config, step=10, attempt=0, *, durable=True, origin=ORIGIN):
    """A store with one committed checkpoint, its identity and its directory."""
    store = CheckpointStore(config, origin)
    identity = store.write(snapshot(step), attempt, durable=durable)
    store.commit(identity)
    return store, identity, config.directory / RUN / f"{step:08d}-{attempt}"


# --- what is written comes back ---


@pytest.mark.parametrize("durable", [False, True])
def test_a_checkpoint_comes_back_prepared_and_committed(either, durable):
    store = CheckpointStore(either, ORIGIN)
    identity = store.write(snapshot(), 0, durable=durable)
    assert (identity.step, identity.attempt, store.held()) == (10, 0, (identity,))
    assert same(store.load(identity), snapshot())
    for _ in range(2):
        store.commit(identity)
        assert store.held() == (identity,)
        assert same(CheckpointStore(either, ORIGIN).load(identity), snapshot())
    suffix = ".aesgcm" if either.key_variable else ""
    assert files(either.directory) == [
        f"{RUN}/00000010-0/{name}" for name in ("manifest.json", f"state.safetensors{suffix}")
    ]


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(st.text(min_size=1).filter(lambda name: name != "__metadata__"), st.lists(st.floats()), max_size=4),
    st.dictionaries(st.text(), st.text(), max_size=4),
)
def test_any_names_and_texts_come_back(numbers, facts):
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in numbers.items()}
    back, texts = checkpoint_state.decode_state(checkpoint_state.encode_state(tensors, facts))
    assert texts == facts
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name].view(torch.int64), tensors[name].view(torch.int64)) for name in tensors)


def test_only_the_owner_can_read_them(config):
    _, _, path = written(config)
    for directory in (config.directory, path.parent, path):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


def test_equal_states_have_unequal_digests_and_the_manifest_tells_no_content(config):
    store = CheckpointStore(config, ORIGIN)
    assert store.write(snapshot(), 0, durable=False).digest != store.write(snapshot(), 0, durable=False).digest
    assert len(store.held()) == 1
    text = (config.directory / RUN / "00000010-0.prepared" / "manifest.json").read_text()
    assert not any(word in text for word in ("bottom", "preprocessing", "Köln"))


def test_with_a_key_neither_weights_nor_texts_are_on_the_disk(either):
    _, _, path = written(either)
    content = b"".join(file.read_bytes() for file in path.iterdir())
    in_the_clear = [
        word in content for word in ("Köln".encode(), b"bottom.w", torch.ones(4).double().numpy().tobytes())
    ]
    assert in_the_clear == [not either.key_variable] * 3


def test_a_prepared_one_beside_a_committed_one_of_the_same_step_takes_its_place(config):
    store, old, _ = written(config)
    new = store.write(snapshot(value=2.0), 0, durable=True)
    assert set(store.held()) == {old, new}
    assert same(store.load(old), snapshot())
    assert same(store.load(new), snapshot(value=2.0))
    store.commit(new)
    assert store.held() == (new,)


# --- which are kept ---


def test_the_last_durable_ones_and_two_newer_ones_are_kept(config):
    store = CheckpointStore(config.model_copy(update={"keep": 2}), ORIGIN)
    for step in range(1, 14):
        store.commit(store.write(snapshot(step), 0, durable=step % 5 == 0))
        assert step in [identity.step for identity in store.held()]
    assert [identity.step for identity in store.held()] == [13, 12, 10, 5]


def test_after_going_back_the_abandoned_ones_do_not_push_the_new_ones_out(config):
    store = CheckpointStore(config.model_copy(update={"keep": 2}), ORIGIN)
    for step in (10, 20, 30):
        store.commit(store.write(snapshot(step), 0, durable=True))
    store.write(snapshot(40), 0, durable=False)
    for step in (25, 28):
        store.commit(store.write(snapshot(step), 1, durable=True))
    assert [(identity.step, identity.attempt) for identity in store.held()] == [(28, 1), (25, 1)]


def test_one_that_a_power_cut_may_take_is_replaced_by_a_durable_one_of_the_same_step(config):
    store = CheckpointStore(config, ORIGIN)
    volatile = store.write(snapshot(10), 0, durable=False)
    store.commit(volatile)
    durable = store.write(snapshot(10), 0, durable=True)
    assert set(store.held()) == {volatile, durable}, "until the coordinator has decided, either may be gone back to"
    store.load(volatile)
    store.load(durable)
    store.commit(durable)
    assert store.held() == (durable,)
    assert json.loads((config.directory / RUN / "00000010-0" / "manifest.json").read_text())["durable"] is True


def test_a_durable_one_whose_commit_never_came_is_kept_until_the_next_durable_one(config):
    store = CheckpointStore(config, ORIGIN)
    held = []
    store.write(snapshot(10), 0, durable=True)
    for step, durable in ((20, False), (30, True)):
        store.commit(store.write(snapshot(step), 1, durable=durable))
        held.append([identity.step for identity in store.held()])
    assert held == [[20, 10], [30]]


def test_what_a_killed_process_left_aside_is_removed_and_other_things_are_not(config):
    store, _, path = written(config)
    (path.parent / ".clinic-0123456789abcdef").mkdir()
    (path.parent / ".clinic-b-0123456789abcdef").mkdir()
    (path.parent / "notes").mkdir()
    store.commit(store.write(snapshot(20), 0, durable=True))
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("0")) == [
        ".clinic-b-0123456789abcdef",
        "notes",
    ]


def _entry(step, attempt, durable, prepared):
    manifest = Manifest(
        format=1,
        job=RUN,
        job_digest="",
        party="clinic",
        step=step,
        attempt=attempt,
        durable=durable,
        encrypted=False,
        state_bytes=0,
        state_sha256="0" * 64,
        salt="0" * 32,
        version="",
    )
    return Entry(Path(f"{step}-{attempt}-{prepared}"), step, attempt, prepared, manifest)


@settings(deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans()), min_size=1),
    st.data(),
    st.integers(1, 4),
)
def test_what_a_run_can_go_back_to_is_never_superseded(names, data, keep):
    entries = [_entry(step, attempt, data.draw(st.booleans()), prepared) for step, attempt, prepared in names]
    chosen = data.draw(st.sampled_from(entries))
    now = CheckpointId(chosen.step, chosen.attempt, "")
    gone = superseded(entries, now, keep)
    assert chosen not in gone
    assert all((entry.attempt, entry.step) < (now.attempt, now.step) for entry in gone)
    valid = [e for e in entries if not e.prepared and (e.step < now.step or e.attempt >= now.attempt)]
    durable = sorted((e for e in valid if e.durable), key=lambda e: (e.step, e.attempt))
    assert not set(map(id, durable[-keep:])) & set(map(id, gone))
    older = [e for e in entries if e.age < now_age(now) and e not in gone]
    assert len([e for e in older if not e.prepared]) <= keep + 2


def now_age(identity):
    return identity.attempt, identity.step


# --- refusals ---


@pytest.mark.parametrize(
    ("origin", "match"),
    [
        (Origin("credit-99999999", ORIGIN.digest, "clinic"), "belongs to another job"),
        (Origin(RUN, ORIGIN.digest, "bank"), "belongs to another party"),
        (
            Origin(RUN, "model=aa,split=xx,training=yy", "clinic"),
            "changed since a checkpoint was written, in: split, tr",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(config, origin, match):
    _, identity, path = written(config)
    path.parent.rename(config.directory / origin.job)
    with pytest.raises(CheckpointError, match=match) as raised:
        CheckpointStore(config, origin).load(identity)
    assert str(config.directory) not in raised.value.summary


def test_what_is_held_is_of_this_run_and_party(config):
    written(config)
    assert CheckpointStore(config, Origin(RUN, ORIGIN.digest, "bank")).held() == ()
    assert CheckpointStore(config, Origin("credit-99999999", ORIGIN.digest, "clinic")).held() == ()


def test_two_parties_do_not_share_a_directory(config):
    _, _, path = written(config)
    other = CheckpointStore(config, Origin(RUN, ORIGIN.digest, "bank"))
    with pytest.raises(CheckpointError, match="another party keeps its checkpoints"):
        other.write(snapshot(), 0, durable=False)
    assert path.is_dir()


def test_a_newer_format_is_refused_by_name(config):
    store, identity, path = written(config)
    content = json.loads((path / "manifest.json").read_text()) | {"format": 2, "tensors": 7}
    (path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="written by a newer vfl"):
        store.load(identity)
    with pytest.raises(CheckpointError, match="written by a newer vfl"):
        store.commit(identity)
    assert store.held() == ()


@pytest.mark.parametrize("file", ["manifest.json", "state"])
def test_every_cut_and_every_flipped_bit_is_found(either, file):
    store, identity, path = written(either)
    (target,) = path.glob(f"{file}*")
    content = target.read_bytes()
    for position in range(0, len(content), 7):
        broken = bytearray(content)
        broken[position] ^= 1 << position % 8
        for damage in (bytes(broken), content[:position], content + b"\0" * (position + 1)):
            target.write_bytes(damage)
            with pytest.raises(CheckpointError):
                store.load(identity)
    target.unlink()
    with pytest.raises(CheckpointError, match="damaged"):
        store.load(identity)
    assert store.held() == ()
    target.write_bytes(content)
    assert same(store.load(identity), snapshot())


@pytest.mark.parametrize("text", ["", "[]", "7", "{}", '{"format": true}', '{"format": 1}', "[" * 9999, "x" * 99999])
def test_a_manifest_that_is_none_is_damaged(config, text):
    store, identity, path = written(config)
    (path / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match="damaged"):
        store.load(identity)
    assert store.held() == ()
    # Nor does it stand in the way of what comes next.
    store.commit(store.write(snapshot(20), 0, durable=True))
    assert [found.step for found in store.held()] == [20]


def _damages():
    content = save({"w": torch.ones(3)})
    huge = (1 << 40).to_bytes(8, "little") + content[8:]
    shape = content.replace(b'"shape":[3]', b'"shape":[9]')
    nested = b"[" * 50_000
    return [b"", b"\0" * 7, content[:-1], huge, shape, b"\x02" + bytes(7) + b"[]", bytes([80, 195]) + bytes(6) + nested]


@pytest.mark.parametrize("content", _damages())
def test_a_state_that_is_not_safetensors_is_damaged(content):
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint_state.decode_state(content)


def test_a_header_is_bounded_both_ways(monkeypatch):
    content = checkpoint_state.encode_state({}, {"text": "x" * 500})
    monkeypatch.setattr(checkpoint_state, "MAX_HEADER_BYTES", 400)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint_state.decode_state(content)
    with pytest.raises(CheckpointError, match="too large"):
        checkpoint_state.encode_state({}, {"text": "x" * 500})


def test_what_cannot_be_stored_is_refused():
    with pytest.raises(CheckpointError, match="cannot store"):
        checkpoint_state.encode_state({"sparse": torch.eye(3).to_sparse()}, {})


def test_one_that_is_not_there(config):
    store, _, _ = written(config)
    for absent in (CheckpointId(11, 0, "0" * 64), CheckpointId(-1, 0, "0" * 64), CheckpointId(10, 1, "")):
        for call in (store.load, store.commit):
            with pytest.raises(CheckpointError, match="has no checkpoint of step"):
                call(absent)
    with pytest.raises(CheckpointError, match="damaged"):
        store.commit(CheckpointId(10, 0, "0" * 64))


@pytest.mark.parametrize("job", ["../job", "a/b", ".hidden", "", "x" * 200])
def test_a_name_that_would_lead_elsewhere_is_refused(config, job):
    with pytest.raises(CheckpointError, match="cannot name a directory"):
        CheckpointStore(config, Origin(job, "", "clinic"))


# --- keys ---


def test_without_the_key_or_with_another_it_is_refused_by_name(config, monkeypatch):
    monkeypatch.setenv(KEY, "5a" * 32)
    with_key = config.model_copy(update={"key_variable": KEY})
    _, identity, _ = written(with_key)
    with pytest.raises(CheckpointError, match="encrypted and this party has no key"):
        CheckpointStore(config, ORIGIN).load(identity)
    monkeypatch.setenv(KEY, "a5" * 32)
    with pytest.raises(CheckpointError, match="encrypted with another key"):
        CheckpointStore(with_key, ORIGIN).load(identity)


def test_one_in_the_clear_is_refused_by_a_party_with_a_key(config, monkeypatch):
    _, identity, _ = written(config)
    monkeypatch.setenv(KEY, "5a" * 32)
    with pytest.raises(CheckpointError, match="is not encrypted although"):
        CheckpointStore(config.model_copy(update={"key_variable": KEY}), ORIGIN).load(identity)


def test_the_encryption_is_bound_to_the_manifest():
    key, content = bytes(32), b"state"
    manifest = _entry(10, 0, True, False).manifest
    sealed = checkpoint_state.encrypt(key, content, manifest.associated)
    assert len(sealed) == len(content) + checkpoint_state.ENCRYPTION_BYTES
    digested = manifest.model_copy(update={"state_sha256": "1" * 64})
    assert checkpoint_state.decrypt(key, sealed, digested.associated) == content
    for field, value in (("step", 11), ("party", "bank"), ("job", "x"), ("job_digest", "x"), ("salt", "1" * 32)):
        with pytest.raises(CheckpointError):
            checkpoint_state.decrypt(key, sealed, manifest.model_copy(update={field: value}).associated)


def test_a_key_file(config, tmp_path):
    path = tmp_path / "key"
    with_key = config.model_copy(update={"key_file": path})
    with pytest.raises(ConfigError, match="cannot be read"):
        CheckpointStore(with_key, ORIGIN)
    path.write_text("5a" * 32 + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="by others than its owner"):
        CheckpointStore(with_key, ORIGIN)
    path.chmod(0o600)
    store, identity, _ = written(with_key)
    assert same(store.load(identity), snapshot())
    for wrong in ("", "5a" * 31, "x" * 64, "ä"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="not 64 hexadecimal digits"):
            CheckpointStore(with_key, ORIGIN)


def test_a_key_variable_that_is_not_set(config, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(ConfigError, match="not 64 hexadecimal digits") as raised:
        CheckpointStore(config.model_copy(update={"key_variable": KEY}), ORIGIN)
    assert KEY in raised.value.detail


def test_settings(tmp_path):
    with pytest.raises(ValidationError, match="not both"):
        CheckpointConfig(key_file=Path("key"), key_variable=KEY)
    with pytest.raises(ValidationError):
        CheckpointConfig(keep=0)
    (tmp_path / "x.toml").write_text("keep = 1")
    assert load_toml(tmp_path / "x.toml", CheckpointConfig).directory == tmp_path / "checkpoints"


# --- full and read-only disks ---


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    store = CheckpointStore(CheckpointConfig(directory=tmp_path / "file" / "checkpoints"), ORIGIN)
    with pytest.raises(CheckpointError, match="cannot be") as raised:
        store.write(snapshot(), 0, durable=False)
    assert "checkpoints.directory" in raised.value.remedy


def test_a_file_that_may_not_grow_is_a_full_disk_and_leaves_nothing(config):
    store, identity, path = written(config)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, before[1]))
    try:
        with pytest.raises(CheckpointError, match="the disk is full") as raised:
            store.write(snapshot(20), 0, durable=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "free disk space" in raised.value.remedy
    assert str(config.directory) not in raised.value.summary
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert same(store.load(identity), snapshot())


IN_A_SMALL_DISK = f"""
import subprocess, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoints import *
place = Path(sys.argv[1])
store = CheckpointStore(CheckpointConfig(directory=place), ORIGIN)
first = store.write(snapshot(), 0, durable=True)
large = Snapshot(20, {{"w": torch.zeros(100_000)}}, {{}})
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


def work(config):
    """What a run does with its checkpoints: durable and volatile ones, going back, repeating, pruning."""
    store = CheckpointStore(config.model_copy(update={"keep": 1}), ORIGIN)
    for step, attempt, durable in WORK:
        identity = store.write(value_of(step, attempt), attempt, durable=durable)
        yield identity
        store.commit(identity)
        yield identity


def value_of(step, attempt):
    return snapshot(step, float(10 * attempt + step))


def check_after(config, reported):
    """Whatever is held is whole; the last one that was reported, or one made after it, is held; the work can go on."""
    store = CheckpointStore(config, ORIGIN)
    held = store.held()
    for identity in held:
        assert same(store.load(identity), value_of(identity.step, identity.attempt))
    if reported:
        assert max((i.attempt, i.step) for i in held) >= (reported[-1].attempt, reported[-1].step)
    store.commit(store.write(snapshot(9), 9, durable=True))
    left = [path.name for path in (config.directory / RUN).iterdir()]
    assert not [name for name in left if name.startswith(".")]


def count_calls(config):
    with Stopper() as stopper:
        list(work(config))
    return len(stopper.calls)


def _full():
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failure_of_any_call_leaves_whole_checkpoints(tmp_path):
    calls = count_calls(CheckpointConfig(directory=tmp_path / "counted"))
    assert calls > 50
    for at in range(calls):
        config = CheckpointConfig(directory=tmp_path / str(at))
        reported = []
        with Stopper(_full, at), suppress(CheckpointError):
            reported.extend(work(config))
        check_after(config, reported)


KILLED_AT_EVERY_CALL = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_checkpoints import *
place = Path(sys.argv[1])
calls = count_calls(CheckpointConfig(directory=place / "counted"))
for at in range(calls):
    config = CheckpointConfig(directory=place / str(at))
    read, write = os.pipe()
    report = os.fdopen(write, "w")
    if os.fork() == 0:
        with Stopper(lambda: os.kill(os.getpid(), signal.SIGKILL), at):
            for identity in work(config):
                print(identity.step, identity.attempt, identity.digest, file=report, flush=True)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.wait()[1]) == -signal.SIGKILL
    report.close()
    lines = [line.split() for line in open(read)]
    check_after(config, [CheckpointId(int(step), int(attempt), digest) for step, attempt, digest in lines])
print(calls)
"""


def test_a_process_killed_at_any_call_leaves_whole_checkpoints(tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_CALL, str(tmp_path)], env=environment, check=True, capture_output=True
    )
    assert int(done.stdout) > 50


def test_what_is_durable_is_flushed_before_it_has_its_name_and_nothing_else_is(config):
    store = CheckpointStore(config, ORIGIN)
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
