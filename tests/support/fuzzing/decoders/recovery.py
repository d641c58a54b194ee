"""Targets: files that recovery reads back, checkpoints and the coordinator's record of runs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch

from support.fuzzing.decoders.files import file_with
from support.fuzzing.members import ACTIVE, JOB, folder
from support.fuzzing.registry import MEBIBYTE, fuzz_target
from vfl.checkpoints.config import CheckpointConfig
from vfl.checkpoints.state import decode_state, decrypt, encode_state, encrypt
from vfl.checkpoints.store import CheckpointStore, Origin, Snapshot
from vfl.ids import CheckpointId
from vfl.privacy.ledger.anchor import Anchor, AnchorFile
from vfl.privacy.ledger.ledger import DisclosureLedger
from vfl.run_records.result import RunResult
from vfl.run_records.store import CommittedCheckpoint, RunStore, StepRecord

SNAPSHOT = Snapshot(3, {"rows": torch.arange(4), "bottom.model.w": torch.ones(2, 2)}, {"preprocessing": "{}"})
_SQLITE_BYTES = 1 << 17


@cache
def _written() -> tuple[CheckpointStore, CheckpointId, Path]:
    store = CheckpointStore(CheckpointConfig(directory=folder() / "checkpoints"), Origin(JOB, "job=1", ACTIVE))
    identity = store.write(SNAPSHOT, 0, durable=False)
    store.commit(identity)
    (manifest,) = (folder() / "checkpoints").rglob("manifest.json")
    return store, identity, manifest


def _manifests() -> Iterator[bytes]:
    """Kept before any target writes into the file."""
    yield _written()[2].read_bytes()
    yield b"{" * 5000


@fuzz_target(_manifests)
def checkpoint_manifest(data: bytes) -> None:
    """The manifest of a checkpoint: listed, loaded and, where it is the one asked for, used."""
    store, identity, manifest = _written()
    manifest.write_bytes(data)
    store.held()
    store.load(identity)


@fuzz_target(lambda: iter([encode_state(SNAPSHOT.tensors, SNAPSHOT.facts), encode_state({}, {})]))
def checkpoint_state(data: bytes) -> None:
    """The state of a checkpoint, past its digest."""
    decode_state(data)


_KEY, _BOUND_TO = b"k" * 32, b"job-1"


@fuzz_target(lambda: [encrypt(_KEY, encode_state({}, {}), _BOUND_TO), encrypt(_KEY, b"x", b"job-2"), bytes(12)])
def encrypted_state(data: bytes) -> None:
    """The state of a checkpoint that is encrypted: decrypted, and decoded if it was this party's."""
    decode_state(decrypt(_KEY, data, _BOUND_TO))


def _anchors() -> Iterator[bytes]:
    AnchorFile(folder() / "anchor").write(Anchor.fresh())
    yield (folder() / "anchor").read_bytes()


@fuzz_target(_anchors)
def ledger_anchor(data: bytes) -> None:
    """The file that says how far the disclosure ledger has got."""
    AnchorFile(file_with("anchor", data)).read()


def _database_with(name: str, data: bytes) -> Path:
    """An SQLite file that holds the input, without what was written beside the one before."""
    path = file_with(name, data)
    for other in path.parent.glob(f"{name}-*"):
        other.unlink()
    return path


def _ledgers() -> Iterator[bytes]:
    path = folder() / "seed_ledger.sqlite"
    DisclosureLedger.open(path, folder() / "seed_anchor").close()
    yield path.read_bytes()


@fuzz_target(_ledgers, room=8 * MEBIBYTE, max_bytes=_SQLITE_BYTES)
def ledger_database(data: bytes) -> None:
    """The disclosure ledger's SQLite file: opened, checked entry by entry, and summed up."""
    path = _database_with("ledger.sqlite", data)
    file_with("ledger_anchor", (folder() / "seed_anchor").read_bytes())
    with DisclosureLedger.open(path, folder() / "ledger_anchor") as ledger:
        ledger.verify()
        ledger.summary()
        ledger.spent([b"row"])


def _records() -> Iterator[bytes]:
    path = folder() / "seed.sqlite"
    with RunStore(path) as store:
        store.begin("job-1", "job", "test", "job=1", "job.toml")
        attempt = store.next_attempt("job-1")
        step = StepRecord(1, attempt, "train", 0, 0, 32, 0.5, 0.1, 1000)
        parties = {ACTIVE: CheckpointId(1, attempt, "0" * 64)}
        store.commit("job-1", CommittedCheckpoint(1, attempt, True, parties, RunResult("job-1").to_json()), [step])
        store.event("job-1", "interrupted", "telco went away", where="top", attempt=attempt)
    yield path.read_bytes()


@fuzz_target(_records, room=8 * MEBIBYTE, max_bytes=_SQLITE_BYTES)
def record_of_runs(data: bytes) -> None:
    """The coordinator's SQLite file, read as ``vfl runs`` and ``vfl run --resume`` read it."""
    path = _database_with("runs.sqlite", data)
    with RunStore(path) as store:
        for record in store.runs():
            for read in (store.checkpoints, store.steps, store.epochs, store.events, store.outcome):
                read(record.run)
        store.latest_unfinished("job")
