"""What ledgers count: outputs at the passive party, gradients at the active one, equal replays nowhere."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest
from support.faults.recovering import run_here
from support.federations.federation import ACTIVE, Federation
from support.federations.in_process import run_federation

from vfl.configuration.toml_files import load_toml
from vfl.party.config import PartyConfig
from vfl.privacy.ledger.release import Purpose

CLINIC = "clinic"
PASSES = 2


def federation_of(folder: Path) -> Federation:
    """A job that trains clinic's bottom."""
    federation = Federation(folder, rows=160)
    federation.job["training"]["passes"] = PASSES
    federation.job["timeouts"]["reconnect"] = 5.0
    return federation


def spent(federation: Federation, name: str) -> Mapping[str, int]:
    """Releases by purpose, over all runs of a party."""
    with load_toml(federation.path(name), PartyConfig).open_ledger() as ledger:
        ledger.verify()
        counts: Counter[str] = Counter()
        for use in ledger.summary().uses:
            counts[use.purpose] += use.releases
        return counts


async def run_again(federation: Federation) -> None:
    """Run the job once more over the files that are there."""
    run = await run_federation(federation)
    assert set(run.errors.values()) == {None}, run.errors


async def test_gradients_are_counted_and_an_equal_run_costs_nothing(tmp_path):
    federation = federation_of(tmp_path).write()
    await run_again(federation)
    at_bank, at_clinic = spent(federation, ACTIVE), spent(federation, CLINIC)
    training = at_clinic[Purpose.TRAINING]
    assert at_bank == {Purpose.GRADIENT: training}
    assert training % PASSES == 0 < at_clinic[Purpose.EVALUATION]
    await run_again(federation)
    assert (spent(federation, ACTIVE), spent(federation, CLINIC)) == (at_bank, at_clinic)


async def test_validation_rows_released_after_the_last_pass_are_those_that_were_scored(tmp_path):
    """The weights and outputs are those of the last evaluation: releasing them again is a replay."""
    counts = []
    for local_epochs in (0, 1):
        (tmp_path / str(local_epochs)).mkdir()
        federation = federation_of(tmp_path / str(local_epochs))
        federation.job["training"]["local_epochs"] = local_epochs
        await run_again(federation.write())
        counts.append(spent(federation, CLINIC))
    without, released = counts
    assert released[Purpose.EVALUATION] == without[Purpose.EVALUATION]
    assert released[Purpose.TRAINING] * PASSES == without[Purpose.TRAINING] * (PASSES + 1)


@pytest.mark.parametrize("changed", [ACTIVE, CLINIC])
async def test_another_table_at_one_party_makes_other_releases_at_all(tmp_path, changed):
    """Otherwise two runs would differ by exact values: equal noise on outputs of different weights."""
    federation = federation_of(tmp_path).write()
    await run_again(federation)
    before = {name: spent(federation, name) for name in federation.names}
    column = f"{changed}_x0"
    other = federation.tables[changed].with_columns(pl.col(column) + pl.lit(1e-9))
    other.write_csv(federation.path(changed, "table.csv"))
    await run_again(federation)
    for name in federation.names:
        assert spent(federation, name) == {purpose: 2 * count for purpose, count in before[name].items()}


async def test_a_bottom_that_is_built_with_other_parameters_each_time_resumes_as_the_one_that_began(tmp_path):
    """Its parameters are restored, and so is the commitment to it: nothing is released under a new label."""
    counts = []
    for stop_at in (None, 3):
        (tmp_path / str(stop_at)).mkdir()
        federation = federation_of(tmp_path / str(stop_at))
        federation.job["checkpoints"] = {"unsynced_every_steps": 1, "every_steps": 6}
        federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": "support.federations.bottoms:unseeded"}
        ended = await run_here(federation.write(), stop_at=stop_at)
        if stop_at is not None:
            assert {error.code for error in ended.errors.values()} == {"aborted"}
            ended = await run_here(federation, resume=True)
        assert set(ended.errors.values()) == {None}, ended.errors
        counts.append({name: spent(federation, name) for name in federation.names})
    assert counts[0] == counts[1]


async def test_rules_for_ids_make_no_new_row_of_one_that_was_released(tmp_path):
    """A job may have ids compared in lower case, the next one as they are: the rows are the same."""
    federation = federation_of(tmp_path)
    federation.parties[CLINIC]["policy"]["max_releases_per_row"] = 2 * PASSES - 1
    federation.job |= {"model": {}, "interaction": {}, "training": {"passes": PASSES, "batch_size": 64}}
    for party in federation.parties.values():
        party.pop("bottom", None)
    federation.tables = {
        name: table.with_columns(pl.col("id").str.to_uppercase()) for name, table in federation.tables.items()
    }
    await run_again(federation.write())
    for file in (federation.path(name, "job.toml") for name in (*federation.names, "coordinator")):
        file.write_text(f'{file.read_text()}\n[ids]\ncase = "lower"\n')
    run = await run_federation(federation)
    assert "rows have fewer releases left than it needs" in run.errors[CLINIC].summary
