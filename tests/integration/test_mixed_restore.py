"""A coordinator that has parties resume from checkpoints of different steps.

Shares of the interaction weights are uniform, so shares of different checkpoints add up to weights that differ from the
true ones by what the active party knows: both of its own shares. Z would then tell it the activations, whatever the
noise on it.
"""

import asyncio
import dataclasses

import numpy as np
import pytest
import torch
from support.faults.recovering import run_here, small_federation
from support.federations.federation import ACTIVE, COORDINATOR
from support.logs import captured_logs

from vfl.checkpoints.store import CheckpointStore, Origin
from vfl.coordinator.coordinator import Coordinator
from vfl.interact.encrypted_active import EncryptedActive
from vfl.interact.encrypted_passive import EncryptedPassive
from vfl.interact.fixed_point import center
from vfl.job.digests import job_digest
from vfl.party.config import load_party
from vfl.party.learning.snapshots import interaction_weights
from vfl.party.peers.key_exchange import AgreedState
from vfl.party.roles.active import ActiveParty
from vfl.party.roles.passive import PassiveParty
from vfl.party.service.schedule_guard import ScheduleGuard
from vfl.run_records.store import RunStore

CLINIC = "clinic"
COLUMNS = 8
"""Of Z: as many equations for the one activation of each row."""


@pytest.fixture
def stopped(tmp_path):
    """A run with one column at clinic, frozen, that its operator stopped with two checkpoints kept."""
    federation = small_federation(tmp_path)
    federation.job["model"] |= {"trainable": [], "interaction_width": COLUMNS, "widths": {ACTIVE: 4, CLINIC: 1}}
    federation.job["training"]["method"] = "joint"
    federation.tables[CLINIC] = federation.tables[CLINIC].select("id", "clinic_x0")
    federation.parties[CLINIC]["bottom"] = {"kind": "identity"}
    ended = asyncio.run(run_here(federation.write(), stop_at=7))
    assert {error.code for error in ended.errors.values()} == {"aborted"}
    return federation


@pytest.fixture
def checkpoints(stopped):
    """The run's name, and its checkpoints, the newest first."""
    with RunStore(stopped.path(COORDINATOR, "runs.sqlite")) as store:
        (record,) = store.runs()
        newest, older, *_ = store.checkpoints(record.run)
    assert newest.step > older.step
    return record.run, newest, older


@pytest.fixture
def mixed(checkpoints, monkeypatch):
    """A coordinator that has the passive party go back further than the active one."""
    _, newest, older = checkpoints
    restore_one = Coordinator._restore_one

    async def restore(self, _, name, client):
        return await restore_one(self, older if name == CLINIC else newest, name, client)

    monkeypatch.setattr(Coordinator, "_restore_one", restore)


def resume(federation):
    return asyncio.run(run_here(federation, resume=True))


@pytest.mark.usefixtures("mixed")
def test_checkpoints_of_different_steps_are_refused_before_any_arithmetic(stopped, checkpoints, monkeypatch):
    computed = []
    for role in (ActiveParty, PassiveParty):
        monkeypatch.setattr(role, "begin", lambda self, key: computed.append(self))
    with captured_logs() as logs:
        ended = resume(stopped)
    assert ended.errors[COORDINATOR].exit_code == 16
    for name, error in ended.errors.items():
        assert "would begin with another state than" in error.summary, (name, error)
    codes = {ended.errors[name].code for name in stopped.names}
    assert "mismatch" in codes <= {"mismatch", "aborted"}
    told = next(event["detail"] for event in logs if event["event"] == "another state at a peer")
    assert all(f'"step": {checkpoint.step}' in told for checkpoint in checkpoints[1:])
    assert computed == []


@pytest.mark.usefixtures("mixed")
def test_without_the_check_the_active_party_would_know_every_activation(stopped, checkpoints, monkeypatch):
    """On a build that compares neither states nor steps, with an active party that looks at Z."""
    monkeypatch.setattr(AgreedState, "encode", lambda self: b"")
    monkeypatch.setattr(ScheduleGuard, "_accept", lambda self, asked: None)
    seen, truth = [], []
    forward, contribute = EncryptedActive.forward, EncryptedPassive.forward

    def looked_at(self, key, rows, columns):
        z_BK = yield from forward(self, key, rows, columns)
        seen.append(z_BK)
        return z_BK

    def contributed(self, key, alpha_q_BD, labels, columns):
        truth.append(alpha_q_BD)
        return contribute(self, key, alpha_q_BD, labels, columns)

    monkeypatch.setattr(EncryptedActive, "forward", looked_at)
    monkeypatch.setattr(EncryptedPassive, "forward", contributed)
    ended = resume(stopped)
    assert ended.errors[ACTIVE].code == "range", "Z is far out of range, and known by then"
    newer, older = (_own_share(stopped, checkpoints[0], checkpoint) for checkpoint in checkpoints[1:])
    np.testing.assert_array_equal(_activations(stopped, seen[0], newer - older), truth[0][:, 0])


def _own_share(federation, run, checkpoint):
    """What the active party itself has kept (K)."""
    setup = load_party(federation.path(ACTIVE))
    store = CheckpointStore(setup.config.checkpoints, Origin(run, job_digest(setup.job, setup.federation), ACTIVE))
    return interaction_weights(store.load(checkpoint.parties[ACTIVE]))[f"{CLINIC}.weights"][0]


def _activations(federation, z_BK, difference_K):
    """The activation of each row: the only one that leaves of Z, less activation times difference, a small rest."""
    parameters = load_party(federation.path(ACTIVE)).parameters
    bound = 2**parameters.settings.activation_bits
    candidates = np.arange(-bound, bound + 1)
    rest_BCK = center(z_BK[:, None, :] - candidates[:, None] * difference_K, parameters.tau)
    return candidates[np.abs(rest_BCK).max(axis=2).argmin(axis=1)]


def second_life(federation, run, checkpoint):
    """The passive party's checkpoint of the same step and attempt, had it been restarted and given both again."""
    setup = load_party(federation.path(CLINIC))
    store = CheckpointStore(setup.config.checkpoints, Origin(run, job_digest(setup.job, setup.federation), CLINIC))
    snapshot = store.load(checkpoint.parties[CLINIC])
    (name,) = (name for name in snapshot.tensors if name.startswith("interaction") and name.endswith("weights"))
    weights = snapshot.tensors[name]
    others = {name: torch.from_numpy(np.random.default_rng().integers(-(2**40), 2**40, weights.shape))}
    facts = {**snapshot.facts, "session": bytes(32).hex()}
    return store, dataclasses.replace(snapshot, tensors={**snapshot.tensors, **others}, facts=facts)


@pytest.mark.parametrize("bound", [True, False], ids=["bound to the keys", "bound to its number"])
def test_one_attempt_in_two_lives_of_a_party_has_two_states(stopped, checkpoints, monkeypatch, bound):
    """Shares are drawn anew for each set of keys, also where the number of the attempt is the same."""
    run, newest, _ = checkpoints
    store, snapshot = second_life(stopped, run, newest)
    if not bound:
        snapshot = dataclasses.replace(snapshot, facts={**snapshot.facts, "session": session_at(stopped, run, newest)})
    other = store.write(snapshot, newest.parties[CLINIC].attempt, durable=True)
    parties = {**newest.parties, CLINIC: other}
    restore_one = Coordinator._restore_one

    async def restore(self, checkpoint, name, client):
        return await restore_one(self, dataclasses.replace(checkpoint, parties=parties), name, client)

    monkeypatch.setattr(Coordinator, "_restore_one", restore)
    summaries = {name: error.summary for name, error in resume(stopped).errors.items()}
    agreed = not any("would begin with another state than" in summary for summary in summaries.values())
    assert agreed != bound, summaries
    assert bound or "interaction layer (Z) exceeds" in summaries[ACTIVE], "Z is that of other weights"


def test_a_peer_that_is_committed_to_another_table_than_in_the_beginning_is_refused(stopped, checkpoints, monkeypatch):
    """It would make everybody's noise fresh for values that were released before, in every attempt."""
    run, newest, _ = checkpoints
    store, snapshot = second_life(stopped, run, newest)
    facts = {**snapshot.facts, "session": session_at(stopped, run, newest), "inputs": bytes(32).hex()}
    other = store.write(dataclasses.replace(snapshot, facts=facts), newest.parties[CLINIC].attempt, durable=True)
    parties = {**newest.parties, CLINIC: other}
    restore_one = Coordinator._restore_one

    async def restore(self, checkpoint, name, client):
        return await restore_one(self, dataclasses.replace(checkpoint, parties=parties), name, client)

    monkeypatch.setattr(Coordinator, "_restore_one", restore)
    ended = resume(stopped)
    assert "resumes with a commitment to another table or bottom" in ended.errors[COORDINATOR].summary


def session_at(federation, run, checkpoint):
    """The session that the active party's checkpoint has."""
    setup = load_party(federation.path(ACTIVE))
    store = CheckpointStore(setup.config.checkpoints, Origin(run, job_digest(setup.job, setup.federation), ACTIVE))
    return store.load(checkpoint.parties[ACTIVE]).facts["session"]


@pytest.fixture
def mixed_later(checkpoints, monkeypatch):
    """A coordinator that has parties agree on a beginning and go back to different checkpoints afterward."""
    _, newest, older = checkpoints
    restore_one, align = Coordinator._restore_one, Coordinator._align

    async def nothing(self, prepared):
        return 0

    async def align_first(self, *, count_only):
        aligned = await align(self, count_only=count_only)
        for name, checkpoint in ((CLINIC, older), (ACTIVE, newest)):
            await restore_one(self, checkpoint, name, self._parties[name])
        return aligned

    monkeypatch.setattr(Coordinator, "_restore", nothing)
    monkeypatch.setattr(Coordinator, "_align", align_first)


@pytest.mark.usefixtures("mixed_later")
def test_nothing_is_restored_once_a_state_is_agreed(stopped, monkeypatch):
    computed = []
    monkeypatch.setattr(PassiveParty, "begin", lambda self, key: computed.append(self))
    ended = resume(stopped)
    assert "requested a checkpoint to be restored after the alignment" in ended.errors[COORDINATOR].summary
    assert computed == []
