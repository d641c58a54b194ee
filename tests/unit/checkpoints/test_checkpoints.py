"""Checkpoints on disk come back exactly, and those that a run can go back to are kept."""

import json
import stat

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.federations.checkpoints import ORIGIN, RUN, entry, files, same, snapshot, written

from vfl.checkpoints import state as checkpoint_state
from vfl.checkpoints.directory import superseded
from vfl.checkpoints.store import CheckpointStore
from vfl.ids import CheckpointId

# --- what is written comes back ---


@pytest.mark.parametrize("durable", [False, True])
def test_a_checkpoint_comes_back_prepared_and_committed(any_store_config, durable):
    store = CheckpointStore(any_store_config, ORIGIN)
    identity = store.write(snapshot(), 0, durable=durable)
    assert (identity.step, identity.attempt, store.held()) == (10, 0, (identity,))
    assert same(store.load(identity), snapshot())
    for _ in range(2):
        store.commit(identity)
        assert store.held() == (identity,)
        assert same(CheckpointStore(any_store_config, ORIGIN).load(identity), snapshot())
    suffix = ".aesgcm" if any_store_config.key_variable else ""
    assert files(any_store_config.directory) == [
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


def test_only_the_owner_can_read_them(store_config):
    _, _, path = written(store_config)
    for directory in (store_config.directory, path.parent, path):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.iterdir()} == {0o600}


def test_equal_states_have_unequal_digests_and_the_manifest_tells_no_content(store_config):
    store = CheckpointStore(store_config, ORIGIN)
    assert store.write(snapshot(), 0, durable=False).digest != store.write(snapshot(), 0, durable=False).digest
    assert len(store.held()) == 1
    text = (store_config.directory / RUN / "00000010-0.prepared" / "manifest.json").read_text()
    assert not any(word in text for word in ("bottom", "preprocessing", "Köln"))


def test_with_a_key_neither_weights_nor_texts_are_on_the_disk(any_store_config):
    _, _, path = written(any_store_config)
    content = b"".join(file.read_bytes() for file in path.iterdir())
    in_the_clear = [
        word in content for word in ("Köln".encode(), b"bottom.w", torch.ones(4).double().numpy().tobytes())
    ]
    assert in_the_clear == [not any_store_config.key_variable] * 3


def test_a_prepared_one_beside_a_committed_one_of_the_same_step_takes_its_place(store_config):
    store, old, _ = written(store_config)
    new = store.write(snapshot(value=2.0), 0, durable=True)
    assert set(store.held()) == {old, new}
    assert same(store.load(old), snapshot())
    assert same(store.load(new), snapshot(value=2.0))
    store.commit(new)
    assert store.held() == (new,)


# --- which are kept ---


def test_the_last_durable_ones_and_two_newer_ones_are_kept(store_config):
    store = CheckpointStore(store_config.model_copy(update={"keep": 2}), ORIGIN)
    for step in range(1, 14):
        store.commit(store.write(snapshot(step), 0, durable=step % 5 == 0))
        assert step in [identity.step for identity in store.held()]
    assert [identity.step for identity in store.held()] == [13, 12, 10, 5]


def test_after_going_back_the_abandoned_ones_do_not_push_the_new_ones_out(store_config):
    store = CheckpointStore(store_config.model_copy(update={"keep": 2}), ORIGIN)
    for step in (10, 20, 30):
        store.commit(store.write(snapshot(step), 0, durable=True))
    store.write(snapshot(40), 0, durable=False)
    for step in (25, 28):
        store.commit(store.write(snapshot(step), 1, durable=True))
    assert [(identity.step, identity.attempt) for identity in store.held()] == [(28, 1), (25, 1)]


def test_one_that_a_power_cut_may_take_is_replaced_by_a_durable_one_of_the_same_step(store_config):
    store = CheckpointStore(store_config, ORIGIN)
    volatile = store.write(snapshot(10), 0, durable=False)
    store.commit(volatile)
    durable = store.write(snapshot(10), 0, durable=True)
    assert set(store.held()) == {volatile, durable}, "until the coordinator has decided, either may be gone back to"
    store.load(volatile)
    store.load(durable)
    store.commit(durable)
    assert store.held() == (durable,)
    assert json.loads((store_config.directory / RUN / "00000010-0" / "manifest.json").read_text())["durable"] is True


def test_a_durable_one_whose_commit_never_came_is_kept_until_the_next_durable_one(store_config):
    store = CheckpointStore(store_config, ORIGIN)
    held = []
    store.write(snapshot(10), 0, durable=True)
    for step, durable in ((20, False), (30, True)):
        store.commit(store.write(snapshot(step), 1, durable=durable))
        held.append([identity.step for identity in store.held()])
    assert held == [[20, 10], [30]]


def test_what_a_killed_process_left_aside_is_removed_and_other_things_are_not(store_config):
    store, _, path = written(store_config)
    (path.parent / ".clinic-0123456789abcdef").mkdir()
    (path.parent / ".clinic-b-0123456789abcdef").mkdir()
    (path.parent / "notes").mkdir()
    store.commit(store.write(snapshot(20), 0, durable=True))
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.startswith("0")) == [
        ".clinic-b-0123456789abcdef",
        "notes",
    ]


@settings(deadline=None)
@given(
    st.sets(st.tuples(st.integers(0, 9), st.integers(0, 3), st.booleans()), min_size=1),
    st.data(),
    st.integers(1, 4),
)
def test_what_a_run_can_go_back_to_is_never_superseded(names, data, keep):
    entries = [entry(step, attempt, data.draw(st.booleans()), prepared) for step, attempt, prepared in names]
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
