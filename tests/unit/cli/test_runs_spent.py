"""``vfl runs spent``: what a party reads about how often it has released its rows."""

import json
import shutil
import sqlite3
from contextlib import closing

import pytest
from support.fixtures.ledgers import ROWS, labels, release
from typer.testing import CliRunner

from vfl.cli.main import app
from vfl.configuration.toml_files import load_toml
from vfl.errors import ConfigError, LedgerError
from vfl.party.config import PartyConfig


@pytest.fixture
def party(tmp_path):
    """A party.toml whose private directory and ledger are elsewhere."""
    path = tmp_path / "party.toml"
    path.write_text(
        'name = "clinic"\njob = "job.toml"\nprivate_seed = "private/seed"\n'
        'data = { path = "t.csv", id_column = "id" }\n'
        "policy = { max_releases_per_row = 2 }\n",
        "utf-8",
    )
    return path


@pytest.fixture
def spent(party):
    def run(*arguments):
        result = CliRunner().invoke(app, ["runs", "spent", str(party), *arguments])
        return result.exit_code, result.output

    return run


def _charge(party, *parts):
    with load_toml(party, PartyConfig).open_ledger() as ledger:
        ledger.charge(ROWS, labels(*parts), release())


def test_nothing_released_makes_no_file(party, spent):
    assert spent() == (0, "nothing has been released yet\n")
    assert spent("--verify") == (0, "nothing has been released yet\n")
    assert list(party.parent.iterdir()) == [party]


def test_what_was_released_and_the_limit(party, spent):
    _charge(party, "a")
    _charge(party, "b")
    code, output = spent()
    assert code == 0, output
    assert "10 rows were released 20 times under noise" in output
    assert "limit: 2 (policy.max_releases_per_row); 10 rows are at it" in output
    assert "run credit-1a2b3c4d (job credit, training): 20 releases of 10 rows, K 2" in output
    assert {path.name for path in party.parent.iterdir()} == {"party.toml", "ledger.sqlite", "private"}
    assert (party.parent / "private" / "ledger_anchor").exists()


def test_as_data(party, spent):
    _charge(party, "a")
    code, output = spent("--json")
    data = json.loads(output)
    assert (code, data["rows"], data["releases"], data["distribution"]) == (0, 10, 10, {"1": 10})
    assert data["uses"][0]["run"] == "credit-1a2b3c4d"
    assert json.loads(CliRunner().invoke(app, ["runs", "--json", "spent", str(party)]).output) == data


def test_a_ledger_that_was_put_back_ends_with_its_exit_code(party, spent):
    _charge(party, "a")
    ledger = party.parent / "ledger.sqlite"
    shutil.copy(ledger, party.parent / "copy")
    _charge(party, "b")
    shutil.copy(party.parent / "copy", ledger)
    code, output = spent()
    assert code == LedgerError.exit_code
    assert "put back from a copy" in output
    ledger.unlink()
    code, output = spent()
    assert code == LedgerError.exit_code
    assert "was reset" in output


def test_changes_inside_are_found_with_verify(party, spent):
    _charge(party, "a")
    assert spent("--verify")[0] == 0
    with closing(sqlite3.connect(party.parent / "ledger.sqlite")) as connection, connection:
        connection.execute("UPDATE rows SET releases = 0")
    assert spent()[0] == 0
    code, output = spent("--verify")
    assert code == LedgerError.exit_code
    assert "the counts of rows do not match the charges" in output


def test_a_file_that_is_no_party_file(tmp_path, spent, party):
    party.write_text("name = 3", "utf-8")
    assert spent()[0] == ConfigError.exit_code


def test_the_ledger_can_be_somewhere_else(party):
    party.write_text(party.read_text("utf-8") + 'privacy = { ledger = "/srv/ledger.sqlite" }\n', "utf-8")
    config = load_toml(party, PartyConfig)
    assert str(config.privacy.ledger) == "/srv/ledger.sqlite"
    assert config.ledger_anchor == party.parent / "private" / "ledger_anchor"
