"""Splits by label and by time through whole runs: agreed, bound to noise, counted, kept over an interruption."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from support.faults.recovering import run_here
from support.federations.federation import ACTIVE, COORDINATOR, Federation
from support.federations.in_process import run_federation
from support.federations.stagewise import stagewise_federation

import vfl
from vfl.configuration.toml_files import load_toml
from vfl.data.preprocess import Preprocessor
from vfl.ids import Split
from vfl.party.config import PartyConfig
from vfl.party.learning.dataset import Dataset
from vfl.party.roles import common
from vfl.party.roles.common import PartyContext
from vfl.party.roles.rows import membership
from vfl.privacy.releases import Releases

CLINIC, SHOP = "clinic", "shop"
MESSAGE = "split_membership"


@pytest.fixture
def datasets(monkeypatch):
    """The rows of every party, by name, in the order in which they were built."""
    built: dict[str, list[Dataset]] = {}
    build = PartyContext._build

    def kept(self):
        aligned = build(self)
        built.setdefault(self.setup.name, []).append(self.dataset)
        return aligned

    monkeypatch.setattr(PartyContext, "_build", kept)
    return built


def by_time(federation):
    """Split by a number that the active party has, with many ties."""
    federation.job["split"]["by"] = "time"
    federation.parties[ACTIVE]["data"]["time_column"] = "when"
    table = federation.tables[ACTIVE]
    when = np.random.default_rng(3).integers(2000, 2020, table.height)
    federation.tables[ACTIVE] = table.with_columns(pl.Series("when", when))
    return federation


def by_label(federation):
    federation.job["split"]["by"] = "label"
    return federation


@pytest.mark.parametrize("chosen", [by_label, by_time])
async def test_all_parties_have_the_active_party_s_rows_in_the_same_parts(tmp_path, datasets, chosen):
    federation = chosen(stagewise_federation(tmp_path, (CLINIC, SHOP), encrypted=False))
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}, run.errors
    assert run.outcome.test
    told = [(address.sender, to) for address, to, _ in run.sent if address.kind == MESSAGE]
    assert sorted(told) == [(ACTIVE, CLINIC), (ACTIVE, SHOP)], "once to each"
    (own,) = datasets[ACTIVE]
    for name in (CLINIC, SHOP):
        (theirs,) = datasets[name]
        for part in Split:
            assert theirs.ids_of(theirs.rows_of(part)) == own.ids_of(own.rows_of(part))
    table = federation.tables[ACTIVE].sort("id")
    if chosen is by_time:
        train, validation, test = (table["when"].to_numpy()[own.rows_of(part)] for part in Split)
        assert train.max() <= validation.min() <= validation.max() <= test.min()
        return
    positive = table["defaulted"].to_numpy()
    for part in Split:
        rows = own.rows_of(part)
        assert abs(positive[rows].sum() - positive.sum() * len(rows) / table.height) < 1


def changed(packed):
    """Another split with parts of the same sizes: the first training row and the first test row change places."""
    codes = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3).reshape(-1)
    train, test = np.flatnonzero(codes == 0)[0], np.flatnonzero(codes == 2)[0]
    codes[[train, test]] = codes[[test, train]]
    return np.bitwise_or.reduce(codes.reshape(-1, 4) << np.array([0, 2, 4, 6], dtype=np.uint8), axis=1)


@pytest.mark.parametrize("passive", [(CLINIC,), (CLINIC, SHOP)])
async def test_an_active_party_that_tells_one_party_another_split_is_refused_before_anything_is_released(
    tmp_path, passive
):
    async def lies(channel, to, address, message, seconds):
        if (address.kind, to) == (MESSAGE, CLINIC):
            message = replace(message, members=changed(message.members))
        await channel.deliver(address, message, seconds)

    run = await run_federation(by_label(stagewise_federation(tmp_path, passive)).write(), deliver=lies)
    assert "would begin with another state than" in run.errors[COORDINATOR].summary
    assert run.errors[CLINIC] is not None
    assert {address.key.step for address, _, _ in run.sent} == {0}
    assert not {address.kind for address, _, _ in run.sent} & {"encrypted_activations", "weight_share_offer"}


async def test_a_split_with_hardly_any_training_rows_ends_the_run_in_the_name_of_the_active_party(tmp_path):
    async def lies(channel, to, address, message, seconds):
        if address.kind == MESSAGE:
            message = replace(message, members=message.members | np.uint8(0b10101010))
        await channel.deliver(address, message, seconds)

    run = await run_federation(by_label(stagewise_federation(tmp_path, encrypted=False)).write(), deliver=lies)
    assert f"{ACTIVE} sent a split whose parts do not have the numbers of rows" in run.errors[CLINIC].summary
    assert CLINIC in run.errors[COORDINATOR].summary
    assert {address.kind for address, _, _ in run.sent if address.sender == CLINIC}.isdisjoint({"public_keys"})


async def test_a_split_that_the_active_party_s_own_policy_refuses_is_told_to_nobody(tmp_path):
    federation = by_label(stagewise_federation(tmp_path, encrypted=False))
    federation.parties[ACTIVE]["policy"]["min_scored_rows"] = 60
    run = await run_federation(federation.write())
    assert "the validation split has only 20 rows" in run.errors[ACTIVE].summary
    assert MESSAGE not in {address.kind for address, _, _ in run.sent}


@pytest.fixture
def labels_at_clinic(monkeypatch):
    """Release labels of the first batch of clinic by row, run by run, where nothing but the split can differ.

    The parties' commitments are all the same, preprocessing is fitted on all rows, and the active party can choose
    another split without any other change.
    """
    runs, label, fit, choose = [], Releases.labels, Preprocessor.fit, membership.choose
    monkeypatch.setattr(common, "commit_to_inputs", lambda *_: bytes(32))
    monkeypatch.setattr(Preprocessor, "fit", lambda table, _: fit(table, np.arange(len(table))))

    def kept(self, receiver, row_ids, operand_BD, columns):
        labels = label(self, receiver, row_ids, operand_BD, columns)
        if receiver == ACTIVE and not runs[-1]:
            runs[-1].update(zip(row_ids, zip(labels, operand_BD.tolist(), strict=True), strict=True))
        return labels

    monkeypatch.setattr(Releases, "labels", kept)

    def simulate(by, secret=None):
        runs.append({})
        if secret is not None:
            monkeypatch.setattr(membership, "choose", lambda job, table, _: choose(job, table, secret))
        rng, rows = np.random.default_rng(0), 120
        ids, x = [f"{row:03}" for row in range(rows)], rng.normal(size=(rows, 2))
        bank = pl.DataFrame({"id": ids, "a": x[:, 0], "y": (x.sum(axis=1) > 0).astype(int), "when": [*range(12)] * 10})
        clinic = pl.DataFrame({"id": ids, "b": x[:, 1]})
        job = vfl.Job(
            "job", task="binary", split_by=by, training={"method": "joint", "passes": 1, "batch_size": 100},
            interaction={"protocol": "plaintext"}, privacy={"relative_noise": 0.0},
        )  # fmt: skip
        policy = {"allow_unencrypted": True, "min_relative_noise": 0.0}
        roles = {"time": "when"} if by == "time" else {"drop": ["when"]}
        vfl.simulate(
            job,
            active=vfl.Party(ACTIVE, vfl.Table(bank, id="id", label="y", **roles), policy=policy),
            passive=vfl.Party(CLINIC, vfl.Table(clinic, id="id"), bottom="identity", policy=policy),
        )
        return runs[-1]

    return simulate


@pytest.mark.parametrize("by", ["label", "time"])
def test_noise_is_equal_in_an_equal_run_and_other_noise_under_another_split(labels_at_clinic, by):
    first, again = labels_at_clinic(by, bytes(32)), labels_at_clinic(by, bytes(32))
    assert first == again
    other = labels_at_clinic(by, bytes([1] * 32))
    both = first.keys() & other.keys()
    assert first.keys() != other.keys(), "another split"
    assert len(both) > 20
    assert all(first[row][1] == other[row][1] for row in both), "the same activations"
    assert all(first[row][0] != other[row][0] for row in both)


def spent(federation: Federation) -> tuple[int, dict[int, int]]:
    with load_toml(federation.path(CLINIC), PartyConfig).open_ledger() as ledger:
        ledger.verify()
        summary = ledger.summary()
        return sum(use.releases for use in summary.uses), dict(summary.distribution)


async def test_under_another_split_all_rows_are_counted_again_and_an_equal_run_costs_nothing(tmp_path, monkeypatch):
    federation = by_label(stagewise_federation(tmp_path))
    federation.job["training"] |= {"passes": 1, "local_epochs": 1}
    await run_federation(federation.write())
    once, each = spent(federation)
    run = await run_federation(federation)
    assert set(run.errors.values()) == {None}
    assert spent(federation) == (once, each)
    choose = membership.choose
    monkeypatch.setattr(membership, "choose", lambda job, table, _: choose(job, table, bytes(32)))
    run = await run_federation(federation)
    assert set(run.errors.values()) == {None}
    assert spent(federation) == (2 * once, {2 * releases: rows for releases, rows in each.items()})


async def test_a_run_that_was_interrupted_keeps_its_split_and_ends_with_the_same_weights(tmp_path, monkeypatch):
    ended = {}
    for name, at in (("whole", None), ("stopped", 5)):
        (tmp_path / name).mkdir()
        federation = by_label(stagewise_federation(tmp_path / name, encrypted=False))
        federation.job["checkpoints"] = {"unsynced_every_steps": 1, "every_steps": 50}
        stopped = await run_here(federation.write(), stop_at=at)
        if at is not None:
            assert {error.code for error in stopped.errors.values()} == {"aborted"}
            monkeypatch.setattr(membership, "choose", None)  # what the checkpoint holds is used
            stopped = await run_here(federation, resume=True)
        assert set(stopped.errors.values()) == {None}, stopped.errors
        ended[name] = federation.joint_weights()
    assert ended["whole"].keys() == ended["stopped"].keys()
    assert all(np.array_equal(ended["whole"][key], ended["stopped"][key]) for key in ended["whole"])
