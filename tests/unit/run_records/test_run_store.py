"""The coordinator's record of runs: what was committed survives a kill, and a file that is not ours is refused."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.configuration.toml_files import load_toml
from vfl.errors import CheckpointError, ConfigError, ProtocolError
from vfl.ids import CheckpointId
from vfl.run_records import reading
from vfl.run_records import store as run_store
from vfl.run_records.rows import KEPT_DURABLE
from vfl.run_records.store import CommittedCheckpoint, RunsConfig, RunState, RunStore, StepRecord

RUN = "credit-1a2b3c4d"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path):
    with RunStore(path) as store:
        begin(store)
        yield store


def begin(store, run=RUN, job="credit"):
    store.begin(run, job, "trial", "model=aa,split=bb", "/srv/job.toml")


def checkpoint(step, attempt=0, *, durable=True):
    parties = {name: CheckpointId(step, attempt, name * 8) for name in ("bank", "clinic")}
    return CommittedCheckpoint(step, attempt, durable, parties, f'{{"step": {step}}}')


def step_record(step, attempt=0, epoch=0, loss=0.5):
    return StepRecord(step, attempt, "train", epoch, step, 256, loss, 0.25, 1_000_000)


def test_what_was_recorded_is_there_when_the_file_is_opened_again(store, path):
    assert store.get(RUN).attempt == -1
    assert [store.next_attempt(RUN), store.next_attempt(RUN)] == [0, 1]
    store.commit(RUN, checkpoint(2, 1), [step_record(1), step_record(2)])
    store.event(RUN, "failure", "clinic went away", party="clinic", step=3)
    store.end(RUN, RunState.FAILED, "clinic: 'quoted'; DROP TABLE runs", '{"loss": 1}')
    store.close()
    with RunStore(path) as again:
        found = again.get(RUN)
        assert (found.run, found.job, found.federation, found.digest, found.job_file) == (
            RUN,
            "credit",
            "trial",
            "model=aa,split=bb",
            "/srv/job.toml",
        )
        assert (found.state, found.attempt, found.step) == (RunState.FAILED, 1, 2)
        assert found.started < found.updated
        assert found.error == "clinic: 'quoted'; DROP TABLE runs"
        assert again.checkpoints(RUN) == [checkpoint(2, 1)]
        assert again.steps(RUN) == [step_record(1), step_record(2)]
        (event,) = again.events(RUN)
        assert (event.kind, event.text, event.facts) == ("failure", "clinic went away", {"party": "clinic", "step": 3})
        assert again.outcome(RUN) == '{"loss": 1}'


def test_runs_in_their_order_and_the_latest_of_a_job_if_it_is_unfinished(store, monkeypatch):
    assert store.latest_unfinished("credit").run == RUN
    monkeypatch.setattr(run_store.time, "time", lambda: 1.0)  # somebody has set the clock back
    for run, job, state in (("credit-2", "credit", RunState.SAVED), ("other-3", "other", RunState.STOPPED)):
        begin(store, run, job)
        store.end(run, state)
    assert [record.run for record in store.runs()] == ["other-3", "credit-2", RUN]
    assert store.latest_unfinished("credit").run == "credit-2"
    assert store.latest_unfinished("absent") is None


def test_a_run_that_was_given_up_before_a_finished_one_is_not_gone_on_with(store):
    begin(store, "credit-2")
    store.end("credit-2", RunState.FINISHED)
    assert store.latest_unfinished("credit") is None


def test_a_new_attempt_means_that_the_run_goes_on(store):
    store.end(RUN, RunState.FAILED, "clinic went away")
    store.next_attempt(RUN)
    assert (store.get(RUN).state, store.get(RUN).error) == (RunState.RUNNING, "")
    store.end(RUN, RunState.FINISHED)
    with pytest.raises(ConfigError, match="is finished"):
        store.next_attempt(RUN)


def test_a_later_attempt_replaces_a_checkpoint_and_steps(store):
    store.commit(RUN, checkpoint(2), [step_record(1), step_record(2)])
    store.commit(RUN, checkpoint(2, 1), [step_record(2, 1, loss=0.25)])
    assert store.checkpoints(RUN) == [checkpoint(2, 1)]
    assert [(record.step, record.attempt) for record in store.steps(RUN)] == [(1, 0), (2, 1)]


def test_a_coordinator_that_was_replaced_commits_nothing(store):
    first, second = store.next_attempt(RUN), store.next_attempt(RUN)
    with pytest.raises(ProtocolError, match="another coordinator has taken over"):
        store.commit(RUN, checkpoint(2, first), [step_record(2)])
    assert not store.checkpoints(RUN)
    assert not store.steps(RUN)
    store.commit(RUN, checkpoint(2, second), [step_record(2)])


def test_of_many_durable_checkpoints_the_last_are_kept(store):
    for step in range(1, KEPT_DURABLE + 4):
        store.commit(RUN, checkpoint(step), [])
    kept = [found.step for found in store.checkpoints(RUN)]
    assert kept == list(range(KEPT_DURABLE + 3, 3, -1))
    assert store.last_checkpoint(RUN) == kept[0]


def test_going_back_forgets_what_came_after_and_tells_how_much(store):
    for step in (2, 4, 6):
        store.commit(RUN, checkpoint(step), [step_record(step - 1), step_record(step)])
    begin(store, "other-1")
    store.commit("other-1", checkpoint(9), [step_record(9)])
    assert (store.roll_back(RUN, 4, 0), store.get(RUN).step) == (2, 4)
    assert [found.step for found in store.checkpoints(RUN)] == [4, 2]
    assert [record.step for record in store.steps(RUN)] == [1, 2, 3, 4]
    assert (store.roll_back(RUN, 4, 0), store.roll_back(RUN, 9, 0), store.get(RUN).step) == (0, 0, 4)
    assert len(store.steps("other-1")) == len(store.checkpoints("other-1")) == 1


def test_checkpoints_that_no_party_keeps_are_forgotten(store):
    kept = []
    for step in range(1, 8):
        store.commit(RUN, checkpoint(step, durable=step % 5 == 0), [])
        kept.append([found.step for found in store.checkpoints(RUN)])
    assert kept == [[1], [2, 1], [3, 2], [4, 3], [5], [6, 5], [7, 6, 5]]


def test_a_commit_is_all_or_nothing(store):
    store.commit(RUN, checkpoint(2), [step_record(2)])
    for broken in ([step_record(3), replace(step_record(4), rows=None)], [replace(step_record(4), seconds=None)]):
        with pytest.raises(CheckpointError):
            store.commit(RUN, checkpoint(4), broken)
    assert store.checkpoints(RUN) == [checkpoint(2)]
    assert store.steps(RUN) == [step_record(2)]
    assert store.get(RUN).step == 2


def test_epochs_are_summed_up_over_training_steps(store):
    records = [step_record(1, loss=1.0), step_record(2, loss=0.5), step_record(3, epoch=1, loss=0.25)]
    store.commit(RUN, checkpoint(4), [*records, replace(step_record(4, epoch=1), split="validation", loss=None)])
    assert [(e.epoch, e.steps, e.loss, e.seconds, e.bytes_sent) for e in store.epochs(RUN)] == [
        (1, 2, 0.75, 0.5, 2_000_000),
        (2, 1, 0.25, 0.25, 1_000_000),
    ]


def test_epochs_are_numbered_without_those_that_only_release_outputs(store):
    records = [step_record(1, epoch=0), step_record(2, epoch=1), step_record(5, epoch=3), step_record(9, epoch=6)]
    store.commit(RUN, checkpoint(9), records)
    assert [epoch.epoch for epoch in store.epochs(RUN)] == [1, 2, 3, 4]


@settings(max_examples=20, deadline=None)  # a flush may take long
@given(text=st.text(st.characters(exclude_categories=["Cs"])), number=st.integers(0, 2**62), loss=st.floats(0, 1e300))
def test_any_text_and_number_come_back(tmp_path_factory, text, number, loss):
    with RunStore(tmp_path_factory.mktemp("runs") / "r.sqlite") as store:
        store.begin(text, text, text, text, text)
        found = CommittedCheckpoint(number, 0, True, {text: CheckpointId(number, 0, text)}, text)
        record = StepRecord(number, 0, text, 0, 0, number, loss, loss, number)
        store.commit(text, found, [record])
        store.event(text, text, text, fact=text)
        store.end(text, RunState.SAVED, text, text)
        assert (store.checkpoints(text), store.steps(text)) == ([found], [record])
        assert (store.get(text).error, store.outcome(text), store.events(text)[0].facts) == (text, text, {"fact": text})


def test_names_that_are_not_there(store):
    for call in (store.get, store.next_attempt, store.outcome):
        with pytest.raises(ConfigError, match="no such run") as raised:
            call("credit-0")
        assert RUN in raised.value.detail
    for call in (
        lambda: store.commit("x", checkpoint(1), []),
        lambda: store.roll_back("x", 1, 0),
        lambda: store.end("x", RunState.FAILED),
        lambda: store.event("x", "kind", "text"),
    ):
        with pytest.raises(ConfigError, match="no such run"):
            call()
    with pytest.raises(CheckpointError, match="already exists"):
        begin(store)


def test_only_the_owner_can_read_the_files(store, path):
    store.event(RUN, "kind", "text")
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert modes.keys() == {"runs.sqlite", "runs.sqlite-wal", "runs.sqlite-shm"}
    assert set(modes.values()) == {0o600}


def test_several_threads_and_stores(store, path):
    def work():
        with RunStore(path) as other:
            for _ in range(5):
                attempts.append(store.next_attempt(RUN))
                attempts.append(other.next_attempt(RUN))

    attempts = []
    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(attempts) == list(range(30))


# --- what can be wrong with the file ---


def test_a_newer_record_is_refused_by_name(store, path):
    store.close()
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 2")
    other.close()
    with pytest.raises(CheckpointError, match="written by a newer vfl"):
        RunStore(path)


def test_a_database_of_something_else_is_refused_and_left_as_it_is(path):
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE patients (id)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="not a record of runs"):
        RunStore(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"hello, this is a text" * 99, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_database_is_damaged(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        RunStore(path)


def test_damage_inside_is_found(store, path):
    store.commit(RUN, checkpoint(1), [])
    for column, text in (("parties", "[]"), ("parties", '{"bank": 3}'), ("parties", "{")):
        with sqlite3.connect(path) as other:
            other.execute(f"UPDATE checkpoints SET {column} = ?", (text,))  # noqa: S608 - a literal above
        other.close()
        with pytest.raises(CheckpointError, match="is damaged"):
            store.checkpoints(RUN)


def test_a_record_in_use_says_so(store, path, monkeypatch):
    monkeypatch.setattr(reading, "BUSY_SECONDS", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with RunStore(path) as impatient:
        assert impatient.get(RUN).run == RUN  # reading goes on
        with pytest.raises(CheckpointError, match="in use by another process"):
            impatient.event(RUN, "kind", "text")
        other.execute("ROLLBACK")
        impatient.event(RUN, "kind", "text")
    other.close()


def test_a_place_that_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file" / "runs.sqlite"):
        with pytest.raises(CheckpointError, match="cannot be") as raised:
            RunStore(place)
        assert "runs.database" in raised.value.remedy
        assert str(tmp_path) not in raised.value.summary


def _python(program, *arguments, before=()):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [*before, sys.executable, "-c", f"from test_run_store import *\n{program}", *map(str, arguments)]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True)


IN_A_SMALL_DISK = """
place = Path(sys.argv[1])
store = RunStore(place / "runs.sqlite")
begin(store)
store.commit(RUN, checkpoint(1), [])
try:
    store.event(RUN, "kind", "x" * 300_000)
except CheckpointError as error:
    print(error.summary)
store.commit(RUN, checkpoint(2), [])
print(store.get(RUN).step, len(store.events(RUN)))
"""


def test_a_full_disk(tmp_path):
    mounted = f'mount -t tmpfs -o size=256k tmpfs {tmp_path} && exec "$@"'
    before = ["unshare", "-m", "sh", "-c", mounted, "sh"]
    if subprocess.run([*before, "true"], check=False, capture_output=True).returncode:
        pytest.skip("mounting a disk needs rights that this user does not have")
    done = _python(IN_A_SMALL_DISK, tmp_path, before=before)
    assert done.stdout.splitlines() == ["the record of runs cannot be written: the disk is full", "2 0"], done.stderr


UNTIL_KILLED = """
with RunStore(Path(sys.argv[1])) as store:
    begin(store)
    for step in range(1, 1000):
        store.commit(RUN, checkpoint(step, store.next_attempt(RUN), durable=step % 2 == 0), [step_record(step)])
        print(step, flush=True)
        if step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("last", [7, 8])
def test_what_was_committed_before_a_kill_is_there(path, last):
    done = _python(UNTIL_KILLED, path, last)
    assert done.returncode == -signal.SIGKILL, done.stderr
    with RunStore(path) as store:
        assert store.get(RUN).state is RunState.RUNNING
        assert (store.get(RUN).step, store.checkpoints(RUN)[0].step) == (last, last)
        assert [record.step for record in store.steps(RUN)] == list(range(1, last + 1))
        assert store.next_attempt(RUN) == last


def test_what_matters_is_flushed_and_the_rest_is_not(store):
    statements = []
    store._connection.set_trace_callback(statements.append)

    def flushed(call):
        statements.clear()
        call()
        (setting,) = [text.split()[-1] for text in statements if "synchronous" in text]
        return setting == "FULL"

    assert flushed(lambda: store.next_attempt(RUN))
    assert flushed(lambda: store.commit(RUN, checkpoint(2), []))
    assert not flushed(lambda: store.commit(RUN, checkpoint(3, durable=False), []))
    assert flushed(lambda: store.roll_back(RUN, 1, 0))
    assert flushed(lambda: store.end(RUN, RunState.SAVED))


def test_settings(tmp_path):
    (tmp_path / "x.toml").write_text("")
    assert load_toml(tmp_path / "x.toml", RunsConfig).database == tmp_path / "runs.sqlite"
