"""A coordinator that asks for more than the job's schedule: parties refuse it, log it and name it, and no label leaves.

What it could ask for otherwise: losses and scores of batches of its choice, from which labels follow; further outputs.
"""

from dataclasses import replace

import pytest
from support.federations.federation import COORDINATOR
from support.federations.in_process import run_federation
from support.logs import captured_logs
from support.wire.abuse import assert_nothing_private

from vfl.coordinator import coordinator as coordinating
from vfl.coordinator import training
from vfl.ids import Batch, Phase, Split
from vfl.job.schedule import Evaluation, Schedule, Step
from vfl.party.service.schedule_guard import ScheduleGuard

# --- what it asks for, made of the honest schedule ---


def _last_training_step(works):
    return max(at for at, work in enumerate(works) if isinstance(work, Step))


def one_more_epoch(works):
    """Every step of the first epoch again, as an epoch after the last one."""
    end = _last_training_step(works) + 1
    steps = [work for work in works[:end] if isinstance(work, Step)]
    again = [work for work in steps if work.batch.epoch == steps[0].batch.epoch]
    epoch, done = steps[-1].batch.epoch + 1, works[end - 1].last_step
    more = [replace(w, step=done + n, batch=replace(w.batch, epoch=epoch)) for n, w in enumerate(again, 1)]
    return [*works[:end], *more]


def losses_only(works):
    """Forward passes and their losses, without a step of anything: the loss of many batches by the same weights."""
    phases = (Phase.BOTTOM_FORWARD, Phase.INTERACTION_FORWARD, Phase.TOP)
    return [replace(work, phases=phases) for work in works if isinstance(work, Step)]


def scores_of_training_batches(works):
    """Metrics of single training batches."""
    steps = [work for work in works if isinstance(work, Step)]
    return [Evaluation(step.step, Split.TRAIN, step.batch.epoch, (step.batch,)) for step in steps]


def scores_of_training_batches_in_place_of_validation(works):
    """The same, behind training that is as it should be."""
    return [replace(w, batches=(Batch(Split.TRAIN, 0, 0),)) if isinstance(w, Evaluation) else w for w in works]


def scores_of_parts_of_the_test_rows(works):
    """Metrics of the test rows of one batch after the other; small differences of them tell single labels."""
    test = works[-1]
    parts = [replace(test, first_step=test.first_step + at, batches=(b,)) for at, b in enumerate(test.batches)]
    return [*works[:-1], *parts]


def a_score_at_once(works):
    """Metrics before anything was evaluated."""
    return [Evaluation(0, Split.VALIDATION, 0, ())]


def a_step_twice(works):
    """A step repeated in the same attempt, under the next number."""
    first = next(work for work in works if isinstance(work, Step))
    return [first, replace(first, step=first.step + 1), *works[1:]]


def another_order(works):
    """The second batch first."""
    first, second, *_ = (work for work in works if isinstance(work, Step))
    return [replace(first, batch=second.batch)]


def an_early_end(works):
    """A model that was trained by its first step only."""
    return works[:1]


def a_release_again(works):
    """Outputs that were released once, under noise that would average out if it were fresh."""
    release = next(work for work in works if isinstance(work, Step) and Phase.KEEP in work.phases)
    at = works.index(release)
    return [*works[: at + 1], replace(release, step=release.step + 1)]


def a_release_before_its_gradient(works):
    """Outputs of columns that are not trained yet."""
    return [replace(work, step=1) for work in works if isinstance(work, Step) and Phase.KEEP in work.phases][:1]


ANY_JOB = (
    one_more_epoch, scores_of_training_batches, scores_of_training_batches_in_place_of_validation, a_score_at_once,
    a_step_twice, an_early_end,
)  # fmt: skip
JOINT = (*ANY_JOB, losses_only, another_order, scores_of_parts_of_the_test_rows)
STAGEWISE = (*ANY_JOB, a_release_again, a_release_before_its_gradient)


# --- what comes of it ---


@pytest.fixture
def joint(federation):
    federation.job["training"]["evaluation_batch_size"] = 32
    return federation


@pytest.fixture
def stagewise(federation):
    federation.job["model"], federation.job["interaction"] = {}, {}
    federation.job["training"] = {"passes": 2, "local_epochs": 3, "evaluation_batch_size": 64}
    for party in federation.parties.values():
        del party["bottom"]
    return federation


@pytest.fixture
def learned(monkeypatch):
    """Everything that a coordinator got metrics for: step, phase and batch, or split and epoch of a score."""
    gained, run_phase, evaluation_done = [], training._run_phase, training.EvaluationDone

    async def noted(call, client):
        report = await run_phase(call, client)
        if report.metrics:
            gained.append((call.key.step, call.phase, call.batch))
        return report

    def scored(split, epoch, metrics):
        gained.append((split, epoch))
        return evaluation_done(split, epoch, metrics)

    monkeypatch.setattr(training, "_run_phase", noted)
    monkeypatch.setattr(training, "EvaluationDone", scored)
    return gained


def _dishonest(monkeypatch, deviate):
    """Coordinators from now on follow another schedule; the ones that they should follow."""
    honest = []

    class Deviating(Schedule):
        def __iter__(self):
            return iter(deviate(list(super().__iter__())))

    def made(*of):
        honest.append(list(Schedule(*of)))
        return Deviating(*of)

    monkeypatch.setattr(coordinating, "Schedule", made)
    return honest


def _told_in_the_end(works):
    """What an honest coordinator learns: losses of all steps that train, and scores of whole splits."""
    steps = [work for work in works if isinstance(work, Step) and work.trains]
    scores = {(work.split, work.epoch) for work in works if isinstance(work, Evaluation)}
    return scores | {(step.step, phase, step.batch) for step in steps for phase in step.phases}


async def _refused(federation, monkeypatch, deviate, learned):
    honest = _dishonest(monkeypatch, deviate)
    with captured_logs() as logs:
        run = await run_federation(federation.write())
    assert run.outcome is None
    for name, error in run.errors.items():
        assert "the coordinator requested" in error.summary, (name, error)
        assert "which is not what the job's schedule has next" in error.summary
        assert_nothing_private(federation, error.summary + error.remedy)
    assert run.errors[COORDINATOR].exit_code == 16
    assert 8 in {run.errors[name].exit_code for name in federation.names}
    told = [event for event in logs if event["event"] == "refused a call that is not in the schedule"]
    assert told
    assert all(event["requested"] != event["due"] for event in told)
    assert set(learned) < _told_in_the_end(honest[0]), "nothing that an honest coordinator would not learn"
    assert len(set(learned)) == len(learned)
    assert not list(federation.folder.rglob("model.safetensors"))


@pytest.mark.parametrize("deviate", JOINT, ids=lambda deviate: deviate.__name__)
async def test_a_coordinator_that_leaves_the_schedule_of_joint_training_is_refused(
    joint, monkeypatch, learned, deviate
):
    await _refused(joint, monkeypatch, deviate, learned)


@pytest.mark.parametrize("deviate", STAGEWISE, ids=lambda deviate: deviate.__name__)
async def test_a_coordinator_that_leaves_the_schedule_of_stagewise_training_is_refused(
    stagewise, monkeypatch, learned, deviate
):
    await _refused(stagewise, monkeypatch, deviate, learned)


async def test_parties_that_took_any_call_would_tell_what_labels_follow_from(joint, monkeypatch, learned):
    """The same coordinator, and parties without the check: it is told losses of many batches by the same weights."""
    honest = _dishonest(monkeypatch, losses_only)
    monkeypatch.setattr(ScheduleGuard, "_accept", lambda self, asked: None)
    monkeypatch.setattr(ScheduleGuard, "checkpoint", lambda self, step: None)
    await run_federation(joint.write())
    steps = [work for work in honest[0] if isinstance(work, Step)]
    assert [batch for _, phase, batch in learned if phase is Phase.TOP] == [step.batch for step in steps]
