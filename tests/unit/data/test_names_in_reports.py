"""Names of columns and words of labels come from whoever made the table: they control no terminal and forge no line."""

import polars as pl
import pytest

from vfl.data.config import DataConfig
from vfl.data.description import TableDescription
from vfl.data.table import load_table
from vfl.party.roles.run_report import RunReport

HOSTILE = "x\x1b[2J\x1b]0;owned\x07\r\n00:00:01 [info     ] run finished\u202e\x9b31m"


@pytest.fixture
def table():
    words = [f"yes{HOSTILE}", "no"] * 10
    rows = {"id": [str(n) for n in range(20)], HOSTILE: [n * n / 7 for n in range(20)], "label": words}
    rows |= {f"blank{HOSTILE}": [None] * 20}
    config = DataConfig(path="table", id_column="id", label_column="label")
    return load_table(config, needs_label=True, frame=pl.DataFrame(rows)), config


def check(text):
    assert all(line.isprintable() for line in text.split("\n")), repr(text)
    assert not any(line.startswith("00:00:01") for line in text.split("\n"))


def test_a_description_of_a_table_is_printable(table):
    described = str(TableDescription.of(*table))
    check(described)
    assert "owned" in described


def test_a_report_of_a_run_is_printable():
    columns = {HOSTILE: "numeric", "long" * 50: "numeric"}
    report = RunReport("job-1", "job", "bank", "active", "binary", {"table": 3}, (HOSTILE,), columns=columns)
    check(str(report))
    check(str(RunReport("job-1", "job", "bank", "active", "binary", {}, left_out={HOSTILE: "blank"})))
