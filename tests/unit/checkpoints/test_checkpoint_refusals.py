"""Checkpoints that are damaged, foreign, newer or of another key are refused by name."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save
from support.federations.checkpoints import KEY, ORIGIN, RUN, entry, same, snapshot, written

from vfl.checkpoints import state as checkpoint_state
from vfl.checkpoints.config import CheckpointConfig
from vfl.checkpoints.store import CheckpointStore, Origin
from vfl.configuration.toml_files import load_toml
from vfl.errors import CheckpointError, ConfigError
from vfl.ids import CheckpointId

# --- refusals ---


@pytest.mark.parametrize(
    ("origin", "match"),
    [
        (Origin("credit-99999999", ORIGIN.digest, "clinic"), "belongs to another run"),
        (Origin(RUN, ORIGIN.digest, "bank"), "belongs to another party"),
        (
            Origin(RUN, "model=aa,split=xx,training=yy", "clinic"),
            "changed since a checkpoint was written, in: split, tr",
        ),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_by_name(store_config, origin, match):
    _, identity, path = written(store_config)
    path.parent.rename(store_config.directory / origin.run)
    with pytest.raises(CheckpointError, match=match) as raised:
        CheckpointStore(store_config, origin).load(identity)
    assert str(store_config.directory) not in raised.value.summary


def test_what_is_held_is_of_this_run_and_party(store_config):
    written(store_config)
    assert CheckpointStore(store_config, Origin(RUN, ORIGIN.digest, "bank")).held() == ()
    assert CheckpointStore(store_config, Origin("credit-99999999", ORIGIN.digest, "clinic")).held() == ()


def test_two_parties_do_not_share_a_directory(store_config):
    _, _, path = written(store_config)
    other = CheckpointStore(store_config, Origin(RUN, ORIGIN.digest, "bank"))
    with pytest.raises(CheckpointError, match="another party keeps its checkpoints"):
        other.write(snapshot(), 0, durable=False)
    assert path.is_dir()


def test_a_newer_format_is_refused_by_name(store_config):
    store, identity, path = written(store_config)
    content = json.loads((path / "manifest.json").read_text()) | {"format": 2, "tensors": 7}
    (path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="written by a newer vfl"):
        store.load(identity)
    with pytest.raises(CheckpointError, match="written by a newer vfl"):
        store.commit(identity)
    assert store.held() == ()


@pytest.mark.parametrize("file", ["manifest.json", "state"])
def test_every_cut_and_every_flipped_bit_is_found(any_store_config, file):
    store, identity, path = written(any_store_config)
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
def test_a_manifest_that_is_none_is_damaged(store_config, text):
    store, identity, path = written(store_config)
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


def test_one_that_is_not_there(store_config):
    store, _, _ = written(store_config)
    for absent in (CheckpointId(11, 0, "0" * 64), CheckpointId(-1, 0, "0" * 64), CheckpointId(10, 1, "")):
        for call in (store.load, store.commit):
            with pytest.raises(CheckpointError, match="has no checkpoint of step"):
                call(absent)
    with pytest.raises(CheckpointError, match="damaged"):
        store.commit(CheckpointId(10, 0, "0" * 64))


@pytest.mark.parametrize("job", ["../job", "a/b", ".hidden", "", "x" * 200])
def test_a_name_that_would_lead_elsewhere_is_refused(store_config, job):
    with pytest.raises(CheckpointError, match="cannot be a directory name"):
        CheckpointStore(store_config, Origin(job, "", "clinic"))


# --- keys ---


def test_without_the_key_or_with_another_it_is_refused_by_name(store_config, monkeypatch):
    monkeypatch.setenv(KEY, "5a" * 32)
    with_key = store_config.model_copy(update={"key_variable": KEY})
    _, identity, _ = written(with_key)
    with pytest.raises(CheckpointError, match="encrypted and this party has no key"):
        CheckpointStore(store_config, ORIGIN).load(identity)
    monkeypatch.setenv(KEY, "a5" * 32)
    with pytest.raises(CheckpointError, match="encrypted with another key"):
        CheckpointStore(with_key, ORIGIN).load(identity)


def test_one_in_the_clear_is_refused_by_a_party_with_a_key(store_config, monkeypatch):
    _, identity, _ = written(store_config)
    monkeypatch.setenv(KEY, "5a" * 32)
    with pytest.raises(CheckpointError, match="is not encrypted although"):
        CheckpointStore(store_config.model_copy(update={"key_variable": KEY}), ORIGIN).load(identity)


def test_the_encryption_is_bound_to_the_manifest():
    key, content = bytes(32), b"state"
    manifest = entry(10, 0, True, False).manifest
    sealed = checkpoint_state.encrypt(key, content, manifest.associated)
    assert len(sealed) == len(content) + checkpoint_state.ENCRYPTION_BYTES
    digested = manifest.model_copy(update={"state_sha256": "1" * 64})
    assert checkpoint_state.decrypt(key, sealed, digested.associated) == content
    for field, value in (("step", 11), ("party", "bank"), ("run", "x"), ("job_digest", "x"), ("salt", "1" * 32)):
        with pytest.raises(CheckpointError):
            checkpoint_state.decrypt(key, sealed, manifest.model_copy(update={field: value}).associated)


def test_a_key_file(store_config, tmp_path):
    path = tmp_path / "key"
    with_key = store_config.model_copy(update={"key_file": path})
    with pytest.raises(ConfigError, match="cannot be read"):
        CheckpointStore(with_key, ORIGIN)
    path.write_text("5a" * 32 + "\n")
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="by users other than its owner"):
        CheckpointStore(with_key, ORIGIN)
    path.chmod(0o600)
    store, identity, _ = written(with_key)
    assert same(store.load(identity), snapshot())
    for wrong in ("", "5a" * 31, "x" * 64, "ä"):
        path.write_text(wrong)
        with pytest.raises(ConfigError, match="not 64 hexadecimal digits"):
            CheckpointStore(with_key, ORIGIN)


def test_a_key_variable_that_is_not_set(store_config, monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(ConfigError, match="not 64 hexadecimal digits") as raised:
        CheckpointStore(store_config.model_copy(update={"key_variable": KEY}), ORIGIN)
    assert KEY in raised.value.detail


def test_settings(tmp_path):
    with pytest.raises(ValidationError, match="not both"):
        CheckpointConfig(key_file=Path("key"), key_variable=KEY)
    with pytest.raises(ValidationError):
        CheckpointConfig(keep=0)
    (tmp_path / "x.toml").write_text("keep = 1")
    assert load_toml(tmp_path / "x.toml", CheckpointConfig).directory == tmp_path / "checkpoints"
