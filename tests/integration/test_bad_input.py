"""Whatever is wrong at one party stops every process with a message that says what to change."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pytest
from support.federations.federation import ACTIVE, COORDINATOR, ID_PREFIX, Federation, Processes
from support.federations.in_process import run_federation

CLINIC = "clinic"
BOTTOMS = """
from torch import nn

def wrong_width(inputs, width):
    return nn.Sequential(nn.Linear(inputs.numeric_width, width + 1), nn.Tanh())

def unbounded(inputs, width):
    return nn.Linear(inputs.numeric_width, width)
"""


@dataclass
class Case:
    """What is changed; what everybody reads; the exit code where it happened; what only the operator there reads."""

    change: Callable[[Federation], None]
    says: str
    remedy: str
    code: int
    local: str = ""
    at: str = CLINIC


def _missing_file(federation):
    del federation.tables[CLINIC]


def _missing_column(federation):
    federation.parties[CLINIC]["data"]["columns"] = {"clinic_x0": "numeric", "clinic_income": "numeric"}


def _not_numeric(federation):
    table = federation.tables[CLINIC]
    values = ["unknown", *table["clinic_x1"].cast(pl.String)[1:]]
    federation.tables[CLINIC] = table.with_columns(pl.Series("clinic_x1", values))
    federation.parties[CLINIC]["data"]["columns"] = {"clinic_x1": "numeric"}


def _repeated_ids(federation):
    table = federation.tables[CLINIC]
    federation.tables[CLINIC] = pl.concat([table, table[:1]])


def _other_ids(federation):
    table = federation.tables[CLINIC]
    federation.tables[CLINIC] = table.with_columns(pl.format("other-{}", pl.col("id")).alias("id"))


def _few_common_ids(federation):
    federation.tables[CLINIC] = federation.tables[CLINIC][5:]
    federation.parties[CLINIC]["policy"]["min_aligned_rows"] = 235
    federation.tables[ACTIVE] = federation.tables[ACTIVE][:236]


def _missing_labels(federation):
    table = federation.tables[ACTIVE]
    labels = pl.Series("defaulted", [None, *table["defaulted"][1:]])
    federation.tables[ACTIVE] = table.with_columns(labels)


def _labels_at_passive(federation):
    federation.parties[CLINIC]["data"]["label_column"] = "clinic_x0"


def _other_job(federation):
    federation.other_job(CLINIC)["training"]["passes"] = 3


def _custom_bottom(name):
    def change(federation):
        federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": f"party_bottoms:{name}"}

    return change


def _small_batches(federation):
    federation.parties[CLINIC]["policy"]["min_batch_size"] = 128


def _unencrypted(federation):
    federation.job["interaction"]["protocol"] = "plaintext"
    federation.parties[ACTIVE]["policy"]["allow_unencrypted"] = True


CASES = {
    "a missing file": Case(_missing_file, "the configured table does not exist", "correct 'path'", 3, "table.csv"),
    "a missing column": Case(
        _missing_column, "configured columns are missing from the table", "correct the names", 3, "clinic_income"
    ),
    "text in a numeric column": Case(
        _not_numeric, "a numeric column contains values that are not numbers", "correct the values", 3, "clinic_x1"
    ),
    "repeated ids": Case(
        _repeated_ids, "the id column has repeated values", "keep one row for each id", 3, "1 of 241 rows"
    ),
    "other ids": Case(_other_ids, "the parties have no id in common", "use the same kind of id", 4, at=ACTIVE),
    "few common ids": Case(
        _few_common_ids, "rows are aligned, fewer than 235", "a lower policy.min_aligned_rows", 8, at=CLINIC
    ),
    "missing labels": Case(
        _missing_labels, "the label column has missing values", "remove the rows", 3, "defaulted", at=ACTIVE
    ),
    "labels at a passive party": Case(
        _labels_at_passive,
        "party 'clinic' is passive but configures a label column",
        "remove data.label_column",
        2,
        "clinic_x0",
    ),
    "another job file": Case(
        _other_job,
        "this party's job or federation file differs from the coordinator's in: training",
        "give every party the same job.toml",
        9,
    ),
    "a bottom of another width": Case(
        _custom_bottom("wrong_width"),
        "the output of the bottom model of party 'clinic' does not have the agreed shape",
        "as many units as this party's width in job.toml",
        5,
        "expected (rows, 4)",
    ),
    "a bottom without bounds": Case(
        _custom_bottom("unbounded"),
        "the output of the bottom model of party 'clinic' is not within [-1, 1]",
        "torch.nn.Tanh()",
        5,
        "the largest |value| is",
    ),
    "a policy": Case(
        _small_batches,
        "this party's policy refuses the job: its batch_size of 64 is below 128",
        "a lower policy.min_batch_size, or a larger batch_size in the job",
        8,
    ),
    "an unencrypted job": Case(
        _unencrypted,
        "this party's policy refuses the job: it sends activations and gradients unencrypted",
        "policy.allow_unencrypted = true",
        8,
    ),
}


REAL = ("a missing file", "other ids", "a bottom without bounds", "a policy")
"""Found at the beginning, in the alignment, when models are built, before anything: as operators see it."""


@pytest.fixture
def bottoms(tmp_path):
    """Where the custom bottoms can be imported from."""
    folder = tmp_path / "python"
    folder.mkdir()
    (folder / "party_bottoms.py").write_text(BOTTOMS)
    return folder


@pytest.mark.parametrize("name", REAL)
def test_bad_input_at_one_party_stops_all_processes_with_its_remedy(federation, bottoms, name):
    CASES[name].change(federation)
    with Processes(federation.write(), pythonpath=bottoms) as processes:
        processes.start()
        codes = processes.wait()
        outputs = {process: processes.output(process) for process in codes}
    _assert_all_are_told(CASES[name], federation, codes, outputs)


@pytest.mark.parametrize("name", [name for name in CASES if name not in REAL])
def test_bad_input_at_one_party_stops_all_with_its_remedy(federation, bottoms, monkeypatch, name):
    monkeypatch.syspath_prepend(bottoms)
    CASES[name].change(federation)
    errors = asyncio.run(run_federation(federation.write())).errors
    codes = {process: error.exit_code for process, error in errors.items()}
    _assert_all_are_told(CASES[name], federation, codes, {process: str(error) for process, error in errors.items()})


def test_ids_that_a_tool_wrote_as_decimals_are_described_to_their_own_party(federation):
    table = federation.tables[ACTIVE]
    numbers = pl.format("{}.0", pl.col("id").str.slice(len(ID_PREFIX)))
    # If all were like this, the table would be refused before anybody aligns.
    mixed = pl.when(pl.int_range(pl.len()) > 0).then(numbers).otherwise(pl.lit("none"))
    federation.tables[ACTIVE] = table.with_columns(mixed.alias("id"))
    errors = asyncio.run(run_federation(federation.write())).errors
    assert errors[ACTIVE].exit_code == 4
    assert "of the 240 ids of this party, 239 end in a decimal point or zeros after it" in str(errors[ACTIVE])
    assert all("decimal point" not in str(errors[name]) for name in (CLINIC, COORDINATOR))


def _assert_all_are_told(case, federation, codes, outputs):
    assert 0 not in codes.values(), codes
    assert codes[case.at] == case.code
    assert case.local in outputs[case.at]
    for process, output in outputs.items():
        assert case.says in output, process
        assert case.remedy in output, process
        assert "Traceback" not in output
        if process != case.at:
            assert f"{case.at}: " in output
            _assert_nothing_private(output, federation, case)


def _assert_nothing_private(output, federation, case):
    """Of the party where it happened: no id, no path, no column name, no value."""
    assert ID_PREFIX not in output
    assert str(federation.path(case.at).parent) not in output
    assert not case.local or case.local not in output


MOMENT = 5.0


def _waits_a_moment(federation):
    federation.job["timeouts"]["connect"] = MOMENT
    return federation.write()


def test_a_party_that_never_starts_is_named_by_all_who_wait_for_it(federation):
    with Processes(_waits_a_moment(federation)) as processes:
        processes.start(ACTIVE, COORDINATOR)
        codes = processes.wait()
        for name in (ACTIVE, COORDINATOR):
            assert codes[name] != 0
            expected = f"clinic did not answer at 127.0.0.1:{federation.port(CLINIC)} within {MOMENT:g} s"
            assert expected in processes.output(name)
            assert "start clinic there" in processes.output(name)


def test_a_coordinator_that_never_starts_ends_the_wait_of_a_party(federation):
    federation.job["timeouts"]["connect"] = 0.5
    with Processes(federation.write()) as processes:
        processes.start(CLINIC)
        assert processes.wait() == {CLINIC: 11}
        assert "the coordinator did not call within 1 s before a run began" in processes.output(CLINIC)
        assert "start the coordinator with 'vfl run'" in processes.output(CLINIC)


def test_a_port_in_use_is_named_with_its_party(federation):
    with socket.socket() as other, Processes(_waits_a_moment(federation)) as processes:
        other.bind(("127.0.0.1", federation.port(CLINIC)))
        other.listen()
        processes.start()
        codes = processes.wait()
        assert codes[CLINIC] == 14
        assert f"clinic cannot open port {federation.port(CLINIC)}" in processes.output(CLINIC)
        assert "change 'listen' of clinic in federation.toml" in processes.output(CLINIC)
        for name in (ACTIVE, COORDINATOR):
            assert codes[name] != 0
            assert "clinic did not answer" in processes.output(name)
