"""A party that lies to the coordinator ends the run under its own name; what it says is recorded and shown nowhere."""

import math
from dataclasses import replace

import pytest
from support.federations.federation import ACTIVE, COORDINATOR
from support.federations.in_process import run_federation

from vfl.errors import ModelError, ProtocolError
from vfl.party.learning.top import TopTrainer
from vfl.party.service.service import PartyService

CLINIC = "clinic"


def _with_loss(value):
    return lambda report: replace(report, metrics={"loss": value}) if report.metrics else report


LIES = {
    "a loss of a passive party": (CLINIC, "run_phase", lambda report: replace(report, metrics={"loss": 0.0})),
    "a loss that is no number": (ACTIVE, "run_phase", _with_loss(math.nan)),
    "no loss": (ACTIVE, "run_phase", lambda report: replace(report, metrics={})),
    "bytes beyond any database": (CLINIC, "run_phase", lambda report: replace(report, bytes_sent=2**63)),
    "a certified constant": (CLINIC, "finish", lambda reply: replace(reply, certified_lipschitz=12345.0)),
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_lie_ends_the_run_with_the_liar_named(federation, monkeypatch, lie):
    liar, method, change = LIES[lie]
    honest = getattr(PartyService, method)

    async def lying(self, call):
        reply = await honest(self, call)
        return change(reply) if self._setup.name == liar else reply

    monkeypatch.setattr(PartyService, method, lying)
    run = await run_federation(federation.write(), over_grpc=True)
    assert run.outcome is None
    error = run.errors[COORDINATOR]
    assert isinstance(error, ProtocolError)
    assert ("the active party" if lie == "no loss" else liar) in error.summary
    assert all(error.summary in str(run.errors[name]) for name in federation.names)


async def test_an_honest_party_whose_training_diverges_says_so_and_is_not_taken_for_a_liar(federation, monkeypatch):
    train = TopTrainer.train
    monkeypatch.setattr(TopTrainer, "train", lambda *of: (math.nan, train(*of)[1]))
    run = await run_federation(federation.write())
    assert isinstance(run.errors[ACTIVE], ModelError)
    assert "training diverged" in run.errors[COORDINATOR].summary
