"""States that are written as checkpoints, and where."""

from __future__ import annotations

from pathlib import Path

import torch

from vfl.checkpoints.directory import Entry
from vfl.checkpoints.manifest import Manifest
from vfl.checkpoints.store import CheckpointStore, Origin, Snapshot

RUN = "credit-1a2b3c4d"
ORIGIN = Origin(RUN, "model=aa,split=bb,training=cc", "clinic")
KEY = "VFL_TEST_CHECKPOINT_KEY"
"""Environment variable that may hold the key of a party."""


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


def entry(step, attempt, durable, prepared):
    """A checkpoint as a listing of the directory tells it."""
    manifest = Manifest(
        format=1,
        run=RUN,
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
