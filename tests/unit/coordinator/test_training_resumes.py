"""From every step on, a coordinator that resumes asks for what the parties' schedules have next, and nothing else."""

import copy
from dataclasses import dataclass, field

import pytest

from vfl import messages as m
from vfl.coordinator.parties import PartyClients
from vfl.coordinator.training import Training
from vfl.ids import AttemptId, CheckpointId, Phase, Role, Split
from vfl.job.best_epoch import BestSoFar
from vfl.job.callbacks import Callbacks
from vfl.job.config import JobConfig
from vfl.job.schedule import Schedule
from vfl.party.service.schedule_guard import ScheduleGuard
from vfl.run_records.result import RunResult

ROWS = {Split.TRAIN: 25, Split.VALIDATION: 12, Split.TEST: 11}
ACTIVE, PASSIVE = "bank", "clinic"


@dataclass
class Party:
    """Answers every call and remembers it."""

    calls: list = field(default_factory=list)

    async def run_phase(self, call):
        self.calls.append(call)
        return m.PhaseReport(0.0, 0, 0, {"loss": 0.5})

    async def score(self, call):
        self.calls.append(call)
        return m.Scored({"auc": 0.5})

    async def checkpoint(self, call):
        self.calls.append(call)
        return m.Checkpointed(CheckpointId(call.key.step, call.key.attempt, ""))

    async def commit(self, call):
        return m.Committed("")


@dataclass
class Journal:
    """Keeps the results at every checkpoint."""

    outcome: RunResult
    kept_durably_at: float = 0.0
    kept: dict[int, RunResult] = field(default_factory=dict)

    def record(self, step):
        pass

    def commit(self, step, parties, *, durable):
        self.kept[step] = copy.deepcopy(self.outcome)


def _job(method: str, local: int, every: int, patience: int | None = None) -> JobConfig:
    training = {"method": method, "passes": 2, "local_epochs": local, "batch_size": 10, "evaluation_batch_size": 10}
    choice = {"training": {**training, "passes": 4, "patience": patience}, "split": {"validation": 0.2}}
    return JobConfig.model_validate(
        {
            "name": "job",
            "seed": 1,
            "task": {"kind": "binary"},
            "training": {**training, "evaluate_every": every},
            "checkpoints": {"unsynced_every_steps": 1},
        }
        | (choice if patience else {})
    )


async def _trained(job: JobConfig, done: int, outcome: RunResult) -> tuple[dict[str, Party], Journal]:
    parties, journal = {ACTIVE: Party(), PASSIVE: Party()}, Journal(outcome)
    clients = PartyClients(parties, ACTIVE)
    training = Training(job, clients, AttemptId("", "run", 0), journal, Callbacks(()), lambda step: None)
    await training.run(Schedule(job, ROWS), done)
    return parties, journal


def _accept(schedule: Schedule, done: int, role: Role, history: list, calls: list) -> None:
    """A party accepts these calls after a step, at which it has marked what the history until then has."""
    best = BestSoFar("auc", schedule._job.training.patience)
    for record in history:
        if "validation_auc" in record and best.consider(int(record["epoch"]) - 1, {"auc": record["validation_auc"]}):
            best.unmarked = False
    guard = ScheduleGuard(schedule, done, role, best)
    for call in calls:
        match call:
            case m.PhaseCall():
                guard.phase(call.key, call.phase, call.batch)
                if call.phase is Phase.MARK_BEST:
                    best.mark(call.batch.epoch)
            case m.Score():
                guard.score(call.split, call.epoch)
                if call.split is Split.VALIDATION:
                    best.consider(call.epoch, {"auc": 0.5})
            case m.Checkpoint():
                guard.checkpoint(call.key.step)
    guard.finish()


def _work(calls: list) -> list:
    return [call for call in calls if not isinstance(call, m.Checkpoint)]


@pytest.mark.parametrize(
    ("method", "local", "every", "patience"),
    [
        ("joint", 0, 1, None),
        ("joint", 2, 2, None),
        ("stagewise", 0, 1, None),
        ("stagewise", 5, 2, None),
        ("joint", 0, 1, 9),
        ("joint", 0, 1, 2),
        ("joint", 3, 1, 1),
        ("joint", 3, 2, 9),
    ],
)
async def test_resumed_at_any_checkpoint_the_same_calls_are_left(method, local, every, patience):
    job = _job(method, local, every, patience)
    parties, journal = await _trained(job, 0, RunResult("run"))
    schedule = Schedule(job, ROWS)
    ended_early = patience is not None and patience < job.passes - 1
    assert ended_early or set(journal.kept) >= {
        0,
        *(due.step for due in schedule.calls(0) if due.batch.split is Split.TRAIN),
    } - {due.step for due in schedule.calls(0) if due.phase is None}
    for step, outcome in journal.kept.items():
        resumed, ended = await _trained(job, step, copy.deepcopy(outcome))
        for name, role in ((ACTIVE, Role.ACTIVE), (PASSIVE, Role.PASSIVE)):
            whole = parties[name].calls
            at = max(n for n, call in enumerate(whole) if isinstance(call, m.Checkpoint) and call.key.step == step)
            assert _work(resumed[name].calls) == _work(whole[at:])
            _accept(schedule, step, role, outcome.history, resumed[name].calls)
        assert ended.outcome.history == journal.outcome.history
        assert ended.outcome.test == journal.outcome.test
