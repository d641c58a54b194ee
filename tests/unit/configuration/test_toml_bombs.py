"""Files of the permitted size that would take minutes and gigabytes: their cost is bounded, and so is the error."""

import difflib
import tomllib

import pytest

from vfl.configuration import toml_files
from vfl.configuration.toml_files import MAX_CHARACTERS, MAX_DOTS, MAX_LISTED, load_toml
from vfl.errors import ConfigError
from vfl.job.config import JobConfig


@pytest.fixture
def refused(tmp_path):
    def refuse(text):
        path = tmp_path / "job.toml"
        path.write_text(text[:MAX_CHARACTERS], encoding="utf-8")
        with pytest.raises(ConfigError) as raised:
            load_toml(path, JobConfig)
        return raised.value

    return refuse


@pytest.mark.parametrize("head", ["", "[training]\n", "[privacy]\n"])
def test_unknown_keys_without_number_are_listed_within_bounds(refused, monkeypatch, head):
    compared = []
    real = difflib.get_close_matches
    monkeypatch.setattr(difflib, "get_close_matches", lambda *a, **k: compared.append(a[0]) or real(*a, **k))
    keys = "".join(f"{'k' * 100}{number} = 1\n" for number in range(9000))
    error = refused(head + keys)
    assert int("".join(filter(str.isdigit, error.summary))) >= 9000
    assert f"and {int(error.summary.split()[-2]) - MAX_LISTED} more" in error.detail
    assert len(error.detail.splitlines()) == MAX_LISTED + 2
    assert len(str(error)) < 10_000
    assert len(compared) <= MAX_LISTED
    assert max(map(len, compared), default=0) <= 64


@pytest.mark.parametrize("line", ["x{} = 1", "[x{}]", "[[x{}]]", "y = {{x{} = 1}}", '"x"{} = 1'])
def test_dotted_keys_of_many_parts_are_not_parsed(refused, monkeypatch, line):
    monkeypatch.setattr(toml_files.tomllib, "loads", lambda _: pytest.fail("parsed"))
    error = refused("name = 'x'\n" + line.format(".x" * (MAX_DOTS + 1)))
    assert f"more than {MAX_DOTS} dots" in error.summary
    assert "line 2" in error.detail
    assert "job.toml" not in error.summary


def test_as_many_dots_as_are_allowed_are_parsed(refused):
    assert "unknown key" in refused("x" + ".x" * MAX_DOTS + " = 1").detail
    assert tomllib.loads("x" + ".x" * MAX_DOTS + " = 1")
