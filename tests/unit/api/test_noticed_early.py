"""Mistakes in arguments are reported before anything runs, and by name."""

import stat

import pytest

import vfl
from vfl.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("options", "absent"),
    [({"id": "client"}, "client"), ({"id": ["id", "branch"]}, "branch"), ({"id": "id", "drop": ["age"]}, "age")],
)
def test_a_table_in_memory_without_a_column(frames, options, absent):
    with pytest.raises(DataError, match="configured columns are missing") as raised:
        vfl.Table(frames["telco"], **options)
    assert f"has no '{absent}'; it has the columns 'id', 'calls', 'plan'" in raised.value.detail


def test_a_party_whose_table_in_memory_lacks_the_label(frames):
    table = vfl.Table(frames["bank"], id="id", label="defaulted")  # as rows that are to be predicted may
    with pytest.raises(DataError, match="configured columns are missing") as raised:
        vfl.Party("bank", table)
    assert "has no 'defaulted'; it has the columns 'id', 'income', 'debt', 'default'" in raised.value.detail


def test_spaces_around_column_names_do_not_count(frames):
    vfl.Party("bank", vfl.Table(frames["bank"].rename({"id": " id", "default": "default "}), id="id", label="default"))


def test_a_simulation_looks_at_the_columns_of_files_first(frames, parties, job, tmp_path, monkeypatch):
    bank, _ = parties()
    frames["telco"].write_csv(tmp_path / "telco.csv")
    telco = vfl.Party("telco", vfl.Table(tmp_path / "telco.csv", id="client"), bottom="mlp")
    monkeypatch.setattr("vfl.api.simulation.run_in_memory", lambda *_: pytest.fail("the run has begun"))
    with pytest.raises(DataError, match="configured columns are missing") as raised:
        vfl.simulate(job, active=bank, passive=[telco])
    assert "has no 'client'; it has the columns 'id', 'calls', 'plan'" in raised.value.detail


@pytest.mark.parametrize(
    ("options", "says", "remedy"),
    [
        ({"policy": {"max_pases": 3}}, "policy.max_pases: unknown key", "write 'max_passes'"),
        ({"policy": {"min_batch_size": 0}}, "policy.min_batch_size", "correct 'min_batch_size'"),
        ({"optimizer": {"name": "adam", "learning_rat": 0.1}}, "learning_rat: unknown key", "write 'learning_rate'"),
        ({"bottom": {"kind": "mlp", "hiden": [8]}}, "hiden: unknown key", "write 'hidden'"),
        ({"threads": 0}, "threads", "correct 'threads'"),
    ],
)
def test_a_setting_of_a_party(frames, options, says, remedy):
    with pytest.raises(ConfigError) as raised:
        vfl.Party("telco", vfl.Table(frames["telco"], id="id"), **options)
    assert raised.value.detail.startswith("party 'telco':")
    assert says in raised.value.detail
    assert remedy in raised.value.remedy


def test_a_single_passive_party_needs_no_list(parties, job, tmp_path):
    bank, telco = parties()
    run = vfl.simulate(job, active=bank, passive=telco)
    assert set(run.bytes_sent) == {"bank", "telco"}
    files = vfl.write_federation(tmp_path, job, active=bank, passive=telco)
    assert files.parties == ("bank", "telco")


def test_tables_in_the_files_of_a_federation_are_readable_by_their_owner_only(parties, job, tmp_path):
    bank, telco = parties()
    vfl.write_federation(tmp_path, job, active=bank, passive=telco)
    tables = list(tmp_path.glob("*/table.parquet"))
    assert len(tables) == 2
    assert {stat.S_IMODE(path.stat().st_mode) for path in tables} == {0o600}


def test_a_job_says_once_how_rows_are_split():
    job = vfl.Job("churn", task="binary", split_by="label", split={"test": 0.2})
    assert job.stated["split"] == {"by": "label", "test": 0.2}
    with pytest.raises(ConfigError, match="both say how to split"):
        vfl.Job("churn", task="binary", split_by="label", split={"by": "time"})
    with pytest.raises(ConfigError, match=r"split\.by"):
        vfl.Job("churn", task="binary", split_by="class")
