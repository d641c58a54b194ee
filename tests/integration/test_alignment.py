"""Alignment over real connections: overlapping tables, counting only, and what is refused."""

import numpy as np
import polars as pl
import pytest
from support.federations.federation import ACTIVE, COORDINATOR, Federation, Processes
from support.federations.in_process import run_federation

from vfl.align import sets
from vfl.audit.log import read_lines
from vfl.errors import DataError, PolicyRefusal, ProtocolError
from vfl.messages import BlindedIdList

CLINIC, INSURER = "clinic", "insurer"


def _keep(federation, name, wanted):
    table = federation.tables[name]
    numbers = table["id"].str.extract(r"(\d+)$").cast(pl.Int64)
    federation.tables[name] = table.filter(numbers.is_in(list(wanted)))


@pytest.fixture
def three(tmp_path):
    """Three parties that share the rows 20 to 219, each with some more."""
    federation = Federation(tmp_path, (CLINIC, INSURER))
    _keep(federation, ACTIVE, range(220))
    _keep(federation, CLINIC, range(20, 240))
    _keep(federation, INSURER, range(10, 230))
    return federation


async def test_parties_train_on_the_rows_that_all_have(three, monkeypatch):
    monkeypatch.setattr(sets, "PART_POINTS", 64)  # several messages for each list
    monkeypatch.setattr("vfl.align.protocol.PART_POINTS", 64)
    run = await run_federation(three.write())
    assert set(run.errors.values()) == {None}, run.errors
    assert run.outcome.party_rows == {ACTIVE: 220, CLINIC: 220, INSURER: 220}
    assert run.outcome.rows == 200
    assert run.outcome.test["auc"] > 0.5


async def test_counting_tells_the_number_and_nothing_else(three):
    run = await run_federation(three.write(), count_only=True)
    assert set(run.errors.values()) == {None}, run.errors
    assert (run.outcome.rows, run.outcome.train_rows) == (200, 0)
    kinds = {address.kind for address, _, _ in run.sent}
    assert kinds == {"id_count", "blinded_id_list", "fully_blinded_id_list", "common_id_count"}
    assert not list(three.path(CLINIC, "model").iterdir())


def test_the_align_command(federation):
    _keep(federation, CLINIC, range(30, 240))
    federation.tables[CLINIC][0, "id"] = None
    with Processes(federation.write()) as processes:
        processes.start(*federation.names)
        processes.start_command(COORDINATOR, "align", "job.toml")
        assert processes.wait() == {ACTIVE: 0, CLINIC: 0, COORDINATOR: 0}
        output = processes.output(COORDINATOR)
    assert "bank: 240 rows with an id, 0 without" in output
    assert "clinic: 209 rows with an id, 1 without" in output
    assert "in common: 209 rows" in output
    (log,) = federation.path(COORDINATOR, "audit").iterdir()
    with log.open("rb") as lines:
        assert [line.record for line in read_lines(lines)][-1].outcome == "finished"


def _tampering(change):
    async def tampered(channel, receiver, address, message, seconds):
        if address.sender == CLINIC and isinstance(message, BlindedIdList):
            message = BlindedIdList(change(message.points.copy()))
        await channel.deliver(address, message, seconds)

    return tampered


def _with_zeros(points):
    points[7] = 0
    return points


def _with_order_four(points):
    points[7] = np.frombuffer((1).to_bytes(32, "little"), np.uint8)
    return points


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_with_zeros, "clinic sent a blinded id that is a point of small order"),
        (_with_order_four, "clinic sent a blinded id that is a point of small order"),
        (lambda points: points[1:], "clinic sent a list of blinded ids of shape (239, 32), expected (240, 32)"),
        (lambda points: np.tile(points, (100, 1)), "of shape (24000, 32), expected (240, 32)"),
        (lambda points: points[:, :16].copy(), "of shape (240, 16), expected (240, 32)"),
    ],
)
async def test_malformed_points_stop_the_job_and_name_the_sender(federation, change, says):
    run = await run_federation(federation.write(), deliver=_tampering(change))
    assert isinstance(run.errors[ACTIVE], ProtocolError)
    assert says in run.errors[ACTIVE].summary
    assert run.outcome is None
    for error in run.errors.values():
        assert says in error.summary


async def test_an_intersection_below_the_minimum_is_refused_before_the_others_learn_which(federation):
    _keep(federation, CLINIC, range(100, 240))
    federation.parties[ACTIVE]["policy"]["min_aligned_rows"] = 20
    federation.parties[CLINIC]["policy"]["min_aligned_rows"] = 141
    run = await run_federation(federation.write())
    assert isinstance(run.errors[CLINIC], PolicyRefusal)
    assert "only 140 rows are aligned, fewer than 141" in run.errors[ACTIVE].summary
    assert "common_ids" not in run.kinds(CLINIC, ACTIVE)


async def test_repeated_ids_are_refused_by_their_number(federation):
    table = federation.tables[CLINIC]
    spelt_twice = table[:2].with_columns(pl.col("id") + " ")
    federation.tables[CLINIC] = pl.concat([table, spelt_twice])
    run = await run_federation(federation.write())
    assert isinstance(run.errors[CLINIC], DataError)
    assert "2 of 242 rows repeat" in run.errors[CLINIC].detail
    assert "the id column has repeated values" in run.errors[ACTIVE].summary


async def test_empty_and_huge_ids(federation):
    for name in federation.names:
        federation.parties[name]["data"]["path"] = "table.parquet"
        ids = federation.tables[name]["id"].sort().to_list()
        table = federation.tables[name].sort("id")
        federation.tables[name] = table.with_columns(pl.Series("id", ["x" * (1 << 20), "", *ids[2:]]))
    run = await run_federation(federation.write())
    assert set(run.errors.values()) == {None}, run.errors
    assert run.outcome.rows == 239
    assert run.outcome.rows_without_id == {ACTIVE: 1, CLINIC: 1}


async def test_ids_that_are_no_utf8_are_refused(federation, monkeypatch):
    federation.write()
    path = federation.path(CLINIC, "table.csv")
    path.write_bytes(path.read_bytes() + b"\xff\xfe,1,1,1\n")
    monkeypatch.setattr(federation, "write", lambda: federation)
    run = await run_federation(federation)
    assert isinstance(run.errors[CLINIC], DataError)
    assert "not text in UTF-8" in run.errors[ACTIVE].summary


async def test_parties_that_write_ids_differently_are_told_before_anything_is_blinded(federation):
    federation.other_job(CLINIC)["ids"] = {"case": "lower"}
    run = await run_federation(federation.write())
    assert "file differs from the coordinator's in: ids" in run.errors[CLINIC].summary
    assert not run.sent
