"""Joint training of a whole federation, after which all parties go back to the pass with the best validation metric."""

import functools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import virtual_time
from support.faults.recovering import Watcher, run_here, small_federation
from support.federations.federation import ACTIVE, COORDINATOR, Federation, differing
from support.federations.in_process import Run, run_federation

from vfl import messages as m
from vfl.coordinator import training
from vfl.ids import Batch, Phase, Split
from vfl.job.best_epoch import BestSoFar
from vfl.messages import BestPassState, ClearActivations
from vfl.party.roles import common
from vfl.run_records.result import RunResult

CLINIC = "clinic"
PASSES, BEST, STEPS = 5, 2, 3
"""Of these passes with so many steps each, the second is the best."""


@pytest.fixture(autouse=True)
def same_seeds(monkeypatch):
    """Jobs that differ draw the same weights, roundings and noise, as far as it is the job that these depend on."""
    monkeypatch.setattr(common, "training_statement", lambda *_: bytes(32))


def federation_of(folder: Path, *, encrypted: bool = False, **of_training) -> Federation:
    """At such a rate the model soon gets worse again; not written yet."""
    folder.mkdir()
    federation = small_federation(folder, PASSES)
    federation.job["training"]["optimizer"]["learning_rate"] = 0.1
    federation.job["training"] |= of_training
    if not encrypted:
        federation.job["interaction"]["protocol"] = "plaintext"
        for party in federation.parties.values():
            party["policy"]["allow_unencrypted"] = True
    return federation


def trained(federation: Federation) -> Run:
    run = virtual_time.run(run_federation(federation.write()))
    assert set(run.errors.values()) == {None}, run.errors
    return run


def reported(federation: Federation) -> dict[str, Any]:
    """What the active party has left for people."""
    (folder,) = federation.path(ACTIVE, "model").iterdir()
    assert (folder / "curves.png").exists()
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


@functools.cache
def undisturbed() -> tuple[Run, Mapping[str, np.ndarray], dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        federation = federation_of(Path(folder) / "undisturbed")
        return trained(federation), federation.everything_saved(), reported(federation)


def noise_on_test_rows(run: Run) -> np.ndarray:
    """What the passive party has added to Z of the test rows, which come last."""
    *_, last = (message for at, _, message in run.sent if isinstance(message, ClearActivations) and at.part == 0)
    return last.noise_z_BK


def passes_of(outcome: RunResult) -> list[float]:
    return [record["epoch"] for record in outcome.history]


def test_all_parties_end_with_the_model_of_a_run_of_exactly_so_many_passes(tmp_path):
    whole, weights, report = undisturbed()
    short = federation_of(tmp_path / "short", passes=BEST, keep_best=False)
    expected = trained(short)
    assert (whole.outcome.steps, expected.outcome.steps) == (PASSES * STEPS, BEST * STEPS)
    assert not differing(weights, short.everything_saved())
    assert whole.outcome.test == expected.outcome.test
    np.testing.assert_array_equal(noise_on_test_rows(whole), noise_on_test_rows(expected))
    assert not any(isinstance(message, BestPassState) for _, _, message in expected.sent)
    scores = [record["validation_auc"] for record in whole.outcome.history]
    assert (whole.outcome.best_epochs, expected.outcome.best_epochs) == ([scores.index(max(scores)) + 1], [])
    assert report["best_pass"] == report["best_epoch"] == {"epoch": BEST, "metric": "auc", "value": max(scores)}
    assert report["history"] == whole.outcome.history


def test_with_patience_passes_end_early(tmp_path):
    federation = federation_of(tmp_path / "patience", patience=2)
    run, (whole, weights, _) = trained(federation), undisturbed()
    assert (passes_of(run.outcome), passes_of(whole.outcome)) == ([1, 2, 3, 4], [1, 2, 3, 4, 5])
    assert run.outcome.steps == 4 * STEPS
    assert not differing(weights, federation.everything_saved())
    np.testing.assert_array_equal(noise_on_test_rows(run), noise_on_test_rows(whole))


def test_noise_on_test_rows_follows_the_pass_that_was_restored(tmp_path, monkeypatch):
    """Z of the test rows depends on it: under equal noise, two runs would show an exact difference."""
    whole, weights, _ = undisturbed()
    consider = BestSoFar.consider
    monkeypatch.setattr(
        BestSoFar, "consider", lambda best, epoch, _: consider(best, epoch, {"auc": 2 - abs(epoch - 2)})
    )
    other = federation_of(tmp_path / "other")
    run = trained(other)
    assert (run.outcome.best_epochs, whole.outcome.best_epochs) == ([3], [BEST])
    assert not (noise_on_test_rows(run) == noise_on_test_rows(whole)).any()
    assert len(differing(weights, other.everything_saved())) > 1


def test_local_epochs_begin_with_the_best_pass(tmp_path):
    """Whatever pass the passes end after: what is released after them, and all that follows, is the same."""
    runs, saved = [], []
    for patience in (2, 3):
        federation = federation_of(tmp_path / str(patience), patience=patience, local_epochs=2)
        runs.append(trained(federation).outcome)
        saved.append(federation.everything_saved())
    assert [passes_of(run) for run in runs] == [[1, 2, 3, 4, 6, 7], [1, 2, 3, 4, 5, 6, 7]]
    assert [run.history[-2:] for run in runs] == [runs[0].history[-2:]] * 2
    assert not differing(*saved)
    assert [len(run.best_epochs) for run in runs] == [2, 2]
    assert runs[0].best_epochs[0] == BEST


# --- interruptions ---


class Stopping(Watcher):
    """Stops the run at a point about the best pass."""

    def __init__(self, point: str) -> None:
        super().__init__()
        self._point = point
        self._going_back = False

    def on_event(self, what, facts):
        super().on_event(what, facts)
        self._going_back |= what == "back to the best pass"
        if self._going_back and self._point == "before":
            raise RuntimeError("stopped before the parties go back")

    def on_checkpoint(self, checkpoint):
        if self._going_back and self._point == "after":
            raise RuntimeError("stopped after the parties went back")


@pytest.mark.parametrize(
    ("point", "training_of"), [("passes", {}), ("before", {"patience": 2}), ("after", {"patience": 2})]
)
def test_after_an_interruption_the_same_pass_is_restored_bit_for_bit(tmp_path, point, training_of):
    """All processes end after the best pass and before the end of the run; encrypted, so that shares are others."""
    federation = federation_of(tmp_path / "run", encrypted=point == "passes", **training_of).write()
    stop_at = BEST * STEPS + 2 * STEPS - 1 if point == "passes" else None
    ended = virtual_time.run(run_here(federation, Stopping(point), stop_at=stop_at))
    assert ended.errors[COORDINATOR].code == ("aborted" if point == "passes" else "callback")
    watcher = Watcher()
    ended = virtual_time.run(run_here(federation, watcher, resume=True))
    assert set(ended.errors.values()) == {None}, ended.errors
    expected, weights, report = undisturbed()
    assert not differing(weights, federation.everything_saved())
    assert ended.outcome.best_epochs == [BEST]
    assert ended.outcome.test == expected.outcome.test
    assert reported(federation)["history"] == ended.outcome.history == report["history"][: len(ended.outcome.history)]
    assert len(watcher.told("back to the best pass")) == (point != "after")


# --- a dishonest coordinator ---


def another_pass(call, name):
    """All are asked to go back to a pass that was not the best."""
    return going_back_to(BEST, call)


def another_pass_at_the_passive_party(call, name):
    """Weights of which one share is of another pass."""
    return going_back_to(BEST if name == CLINIC else BEST - 1, call)


def more_steps_afterward(call, name):
    """A further pass over the training rows from the weights of the best one, in place of the test rows."""
    return replace(call, batch=Batch(Split.TRAIN, PASSES, 0)) if call.batch.split is Split.TEST else call


def a_pass_left_out_at_the_passive_party(call, name):
    """It was not told of the best pass, and is asked to go back to an earlier one, which it has marked."""
    if call.phase is Phase.MARK_BEST and name == CLINIC and call.batch.epoch == BEST - 1:
        return None
    return going_back_to(BEST - 2 if name == CLINIC else BEST - 1, call)


def going_back_in_another_job(call, name):
    """The job does not set keep_best; asked in place of the test rows."""
    batch = Batch(Split.VALIDATION, 0, 0)
    return replace(call, phase=Phase.RESTORE_BEST, batch=batch) if call.batch.split is Split.TEST else call


def going_back_to(epoch, call):
    return replace(call, batch=replace(call.batch, epoch=epoch)) if call.phase is Phase.RESTORE_BEST else call


DISHONEST = [
    another_pass, another_pass_at_the_passive_party, more_steps_afterward, a_pass_left_out_at_the_passive_party,
    going_back_in_another_job,
]  # fmt: skip


@pytest.mark.parametrize("deviate", DISHONEST)
def test_a_coordinator_that_has_other_passes_marked_or_restored_is_refused(tmp_path, monkeypatch, deviate):
    run_phase = training._run_phase

    async def dishonest(call, client):
        asked = deviate(call, client._party)
        return m.PhaseReport(0.0, 0, 0) if asked is None else await run_phase(asked, client)

    monkeypatch.setattr(training, "_run_phase", dishonest)
    federation = federation_of(tmp_path / "run", keep_best=deviate is not going_back_in_another_job)
    run = virtual_time.run(run_federation(federation.write()))
    assert run.outcome is None
    mixed = deviate is a_pass_left_out_at_the_passive_party
    why = "bank would go back to another pass than clinic" if mixed else "which is not what the job's schedule has next"
    assert why in run.errors[COORDINATOR].summary
    *_, last = (address.key.step for address, _, message in run.sent if isinstance(message, ClearActivations))
    assert last <= PASSES * (STEPS + 1), "no test row was released"
