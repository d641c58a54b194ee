"""Replies of parties are checked where they become values: each that cannot be true is refused and its party named."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.federations.federation import ACTIVE

from vfl import messages as m
from vfl.coordinator.replies import CheckedControl
from vfl.errors import ProtocolError
from vfl.ids import Batch, CheckpointId, Phase, Role, Split, StepKey
from vfl.job.setup import load_job_setup
from vfl.models.config import METRIC_RANGES, TaskConfig
from vfl.models.tasks.task import make_task

CLINIC = "clinic"
KEY = StepKey("run", 3, 0)
HONEST = {
    "prepare": m.Prepared(ACTIVE, Role.ACTIVE, 100, 2, ()),
    "restore": m.Restored(ACTIVE),
    "align": m.Aligned(90, 60, 15, 15, 8),
    "begin": m.Begun(ACTIVE),
    "run_phase": m.PhaseReport(0.1, 10, 20, {"loss": 0.6}),
    "score": m.Scored({"auc": 0.8, "accuracy": 1.0, "log_loss": 0.3, "r2": -2.0, "alone_auc": 0.5}),
    "checkpoint": m.Checkpointed(CheckpointId(3, 0, "ab" * 32)),
    "commit": m.Committed(ACTIVE),
    "heartbeat": m.Alive(ACTIVE, "top of step 3", 7, CLINIC, 1.5),
    "finish": m.Finished(ACTIVE, 10, 20, 1 << 30, 1.0),
    "release": m.Released(ACTIVE),
}
CALLS = {
    "run_phase": m.PhaseCall("job@1", KEY, Phase.TOP, Batch(Split.TRAIN, 0, 0)),
    "score": m.Score("job@1", "run", 0, Split.TEST, 1),
    "checkpoint": m.Checkpoint("job@1", KEY, durable=True),
}
LIES = [
    ("prepare", {"party": CLINIC}),
    ("prepare", {"role": Role.PASSIVE}),
    ("prepare", {"rows": 2**63}),
    ("prepare", {"dropped": -1}),
    ("prepare", {"checkpoints": (CheckpointId(1, 0, "ab" * 32),) * 1001}),
    ("prepare", {"checkpoints": (CheckpointId(1, 0, "\x1b[31m" + "a" * 59),)}),
    ("prepare", {"checkpoints": (CheckpointId(-1, 0, "ab" * 32),)}),
    ("align", {"rows": 80}),
    ("align", {"width": 2**64 - 1}),
    ("run_phase", {"metrics": {"loss": math.nan}}),
    ("run_phase", {"metrics": {"loss": math.inf}}),
    ("run_phase", {"metrics": {"loss": -1.0}}),
    ("run_phase", {"metrics": {"\x1b[31m": 1.0}}),
    ("run_phase", {"bytes_sent": 2**63}),
    ("run_phase", {"seconds": math.nan}),
    ("score", {"metrics": {"auc": 1.5}}),
    ("score", {"metrics": {"accuracy": math.nan}}),
    ("score", {"metrics": {"alone_auc": 1.5}}),
    ("score", {"metrics": {"alone_alone_auc": 0.5}}),
    ("score", {"metrics": {"auc\n12:00 [info] all is well": 0.5}}),
    ("checkpoint", {"checkpoint": CheckpointId(4, 0, "ab" * 32)}),
    ("checkpoint", {"checkpoint": CheckpointId(3, 0, "AB" * 32)}),
    ("heartbeat", {"waiting_for": "nobody"}),
    ("heartbeat", {"progress": -5}),
    ("heartbeat", {"waiting_seconds": math.inf}),
    ("heartbeat", {"party": "x" * 10_000}),
    ("finish", {"certified_lipschitz": 12345.0}),
    ("finish", {"certified_lipschitz": math.nan}),
    ("finish", {"peak_memory_bytes": 2**63}),
    ("release", {"party": "\u202eknab"}),
]


@pytest.fixture
def asked(federation):
    """Ask a party that gives this answer."""
    job, settings, _ = load_job_setup(federation.write().path("coordinator", "job.toml"))

    async def ask(method, reply, party=ACTIVE):
        async def answer(*_):
            return reply

        channel = CheckedControl(SimpleNamespace(**{method: answer}), party, job, settings)
        timeout = [1.0] if method in ("align", "heartbeat", "release") else []
        return await getattr(channel, method)(CALLS.get(method), *timeout)

    return ask


@pytest.mark.parametrize("method", HONEST)
async def test_honest_replies_pass(asked, method):
    assert await asked(method, HONEST[method]) == HONEST[method]


async def test_what_the_active_party_reaches_alone_is_reported_once_on_the_test_rows(asked, monkeypatch):
    monkeypatch.setitem(CALLS, "score", replace(CALLS["score"], split=Split.VALIDATION))
    with pytest.raises(ProtocolError, match="unknown metric 'alone_auc'"):
        await asked("score", HONEST["score"])


@pytest.mark.parametrize(("method", "lie"), LIES)
async def test_a_reply_that_cannot_be_true_is_refused_by_name_in_one_printable_line(asked, method, lie):
    with pytest.raises(ProtocolError, match=f"^{ACTIVE} reported") as raised:
        await asked(method, replace(HONEST[method], **lie))
    assert raised.value.summary.isprintable()
    assert len(raised.value.summary) < 600


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("run_phase", HONEST["run_phase"]),
        ("score", HONEST["score"]),
        ("finish", replace(HONEST["finish"], party=CLINIC)),
        ("prepare", replace(HONEST["prepare"], party=CLINIC)),
    ],
)
async def test_a_passive_party_publishes_nothing_that_is_the_active_party_s(asked, method, reply):
    with pytest.raises(ProtocolError, match=f"^{CLINIC} reported"):
        await asked(method, reply, CLINIC)


async def test_what_a_party_says_that_it_does_is_made_printable(asked):
    alive = await asked("heartbeat", replace(HONEST["heartbeat"], doing="top\x1b[2J\n" + "x" * 10_000))
    assert alive.doing.isprintable()
    assert len(alive.doing) <= 500


@pytest.mark.parametrize("kind", ["binary", "multiclass", "regression"])
def test_every_metric_of_every_task_is_known(kind):
    task = make_task(TaskConfig(kind=kind, classes=3 if kind == "multiclass" else None))
    labels = torch.tensor([0.5, 1.0, 0.0]) if kind == "regression" else torch.tensor([0, 1, 0])
    metrics = task.metrics(torch.randn(3, task.out_width), labels)
    assert metrics.keys() <= METRIC_RANGES.keys()
    for name, value in metrics.items():
        assert METRIC_RANGES[name][0] <= value <= METRIC_RANGES[name][1]
