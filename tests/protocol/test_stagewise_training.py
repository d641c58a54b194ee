"""Stagewise training of a whole federation: encrypted as in the clear, and after an interruption, bit for bit."""

import asyncio
import functools
from pathlib import Path

import numpy as np
import pytest
from support.faults.recovering import Watcher, run_here
from support.federations.federation import COORDINATOR, Federation, differing
from support.federations.in_process import Run, run_federation
from support.federations.stagewise import stagewise_federation

from vfl.ids import Phase, Split
from vfl.job.callbacks import CheckpointDone
from vfl.job.schedule import Schedule
from vfl.job.setup import load_job
from vfl.messages import (
    ClearActivationGradient,
    ClearActivations,
    ForwardShare,
    MaskedActivationGradient,
    MaskedWeightGradient,
)
from vfl.party.learning.outputs.kept import KeptOutputs

ROWS = {Split.TRAIN: 130, Split.VALIDATION: 20, Split.TEST: 50}


class Kept:
    """Every release that the active party of a run keeps, in order, and what it keeps in the end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.released: list[tuple[tuple[int, ...], slice, np.ndarray]] = []
        self.whole: np.ndarray | None = None
        keep = KeptOutputs.keep

        def watching(outputs, rows, columns, z_BM):
            keep(outputs, rows, columns, z_BM)
            self.released.append((tuple(rows), columns, z_BM.numpy().copy()))
            self.whole = outputs.state()["z"].numpy().copy()

        monkeypatch.setattr(KeptOutputs, "keep", watching)


async def _trained(federation: Federation) -> tuple[Run, Kept]:
    with pytest.MonkeyPatch.context() as patch:
        kept = Kept(patch)
        run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}
    assert run.outcome is not None
    return run, kept


@pytest.mark.parametrize("passive", [("clinic",), ("clinic", "insurer")])
async def test_encrypted_and_plaintext_jobs_give_the_same_weights_outputs_and_metrics(tmp_path, passive):
    federations, runs = [], []
    for encrypted in (True, False):
        (tmp_path / str(encrypted)).mkdir()
        federation = stagewise_federation(tmp_path / str(encrypted), passive, encrypted=encrypted)
        federations.append(federation)
        runs.append(await _trained(federation))
    (encrypted, kept), (plaintext, expected) = runs
    weights, others = (federation.everything_saved() for federation in federations)
    assert not differing(weights, others)
    for name in passive:
        assert np.abs(weights[f"W of {name}"]).max(axis=0).min() > 0, "every column was trained"
    np.testing.assert_array_equal(kept.whole, expected.whole)
    assert len(kept.released) == len(expected.released)
    for (rows, columns, z), (their_rows, their_columns, their_z) in zip(kept.released, expected.released, strict=True):
        assert (rows, columns) == (their_rows, their_columns)
        np.testing.assert_array_equal(z, their_z)
    assert encrypted.outcome.history == plaintext.outcome.history
    assert encrypted.outcome.test == plaintext.outcome.test
    assert 0 < encrypted.outcome.test["auc"] < 1


async def test_every_row_is_released_once_for_each_column_and_no_gradient_by_activations_leaves(tmp_path):
    run, kept = await _trained(stagewise_federation(tmp_path))
    released = [(row, column) for rows, columns, _ in kept.released for row in rows for column in range(2)[columns]]
    assert len(released) == len(set(released)) == 2 * (ROWS[Split.TRAIN] + ROWS[Split.VALIDATION])
    kinds = {type(message) for _, _, message in run.sent}
    assert {ForwardShare, MaskedWeightGradient} <= kinds
    assert not kinds & {MaskedActivationGradient, ClearActivations, ClearActivationGradient}


async def test_kept_outputs_of_two_runs_are_an_equal_replay(tmp_path):
    """The noise is that of the same releases, so a repeated job tells nothing new; another seed draws other noise."""
    kept = []
    for name, seed in (("first", 11), ("again", 11), ("other", 12)):
        (tmp_path / name).mkdir()
        federation = stagewise_federation(tmp_path / name, encrypted=False)
        federation.job["seed"] = seed
        kept.append((await _trained(federation))[1].whole)
    np.testing.assert_array_equal(kept[0], kept[1])
    assert not (kept[0] == kept[2]).all()


@pytest.mark.parametrize("method", ["joint", "stagewise"])
async def test_metrics_leave_the_active_party_rounded(tmp_path, method):
    federation = stagewise_federation(tmp_path, encrypted=False)
    federation.job["training"] |= {"method": method, "passes": 2}
    outcome = (await _trained(federation))[0].outcome
    told = [value for record in outcome.history for name, value in record.items() if name != "loss"]
    told += outcome.test.values()
    assert len(told) > 10
    assert all(value == round(value, 4) for value in told)


# --- recovery ---


class AtCheckpoint(Watcher):
    """Does its act at the checkpoint of a step, in place of a step."""

    def on_step(self, step):
        self.steps += 1

    def on_checkpoint(self, checkpoint: CheckpointDone):
        if act := self._at.pop(checkpoint.step, None):
            act()


def _recovering(folder: Path, every: int, *, encrypted: bool) -> Federation:
    federation = stagewise_federation(folder, encrypted=encrypted)
    federation.job["checkpoints"] = {"unsynced_every_steps": every, "every_steps": 1000}
    return federation.write()


@pytest.fixture(scope="session")
def quiet(tmp_path_factory):
    """What a run that nobody stops ends with, and its federation: one run of each kind for all tests."""

    @functools.cache
    def run(*, encrypted):
        federation = _recovering(tmp_path_factory.mktemp("quiet"), 1, encrypted=encrypted)
        ended = asyncio.run(run_here(federation))
        assert set(ended.errors.values()) == {None}
        return ended, federation

    return run


@pytest.mark.parametrize(
    ("watcher", "stop_at", "every", "encrypted"),
    [
        (AtCheckpoint, 1, 1, False),  # a local epoch
        (AtCheckpoint, 3, 1, False),  # within the pass of a gradient, of which a part is accumulated
        (AtCheckpoint, 5, 1, False),  # the weights have stepped
        (AtCheckpoint, 7, 1, False),  # within a release
        (AtCheckpoint, 21, 1, False),  # the local epochs at the end
        (Watcher, 4, 3, False),  # steps are lost and repeated
        (Watcher, 7, 4, False),
        (Watcher, 7, 4, True),
    ],
)
def test_an_interrupted_run_resumes_with_the_weights_of_a_quiet_one(
    quiet, tmp_path, watcher, stop_at, every, encrypted
):
    ended, undisturbed = quiet(encrypted=encrypted)
    stopped = _recovering(tmp_path, every, encrypted=encrypted)
    interrupted = asyncio.run(run_here(stopped, watcher(), stop_at=stop_at))
    assert interrupted.outcome is None
    resumed = asyncio.run(run_here(stopped, resume=True))
    assert set(resumed.errors.values()) == {None}
    assert not differing(undisturbed.everything_saved(), stopped.everything_saved())
    for what in ("history", "test", "steps", "trained_samples"):
        assert getattr(resumed.outcome, what) == getattr(ended.outcome, what), what


def test_the_checkpoints_at_which_runs_are_stopped_are_of_every_kind(tmp_path):
    federation = stagewise_federation(tmp_path).write()
    schedule = Schedule(load_job(federation.path(COORDINATOR, "job.toml")), ROWS)
    last = {due.step: due.phase for due in schedule.calls(0)}
    phases = [Phase.LOCAL_EPOCH, Phase.INTERACTION_BACKWARD, Phase.WEIGHT_STEP, Phase.KEEP, Phase.LOCAL_EPOCH]
    assert [last[step] for step in (1, 3, 5, 7, 21)] == phases
