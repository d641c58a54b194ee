from pathlib import Path

import pytest

from vfl.configuration.federation import FederationConfig, load_federation
from vfl.configuration.toml_files import Configuration, LocalPath, load_toml
from vfl.errors import ConfigError
from vfl.models.config import BottomConfig

GOOD = """
name = "demo"
coordinator = "hub"
[[parties]]
name = "bank"
role = "active"
endpoint = "127.0.0.1:5001"
[[parties]]
name = "shop"
role = "passive"
endpoint = "127.0.0.1:5002"
"""


def refused(path: Path, text: str | bytes) -> ConfigError:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_federation(path)
    return caught.value


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "federation.toml"


def test_a_good_file_loads(path):
    path.write_text(GOOD)
    assert load_federation(path).names == ("bank", "shop")


def test_an_unknown_key_is_named_with_the_nearest_known_one(path):
    error = refused(path, GOOD.replace('role = "passive"', 'role = "passive"\nlistn = "127.0.0.1:5003"'))
    assert "parties[1].listn: unknown key" in error.detail
    assert str(path) in error.detail
    assert error.remedy == "write 'listen'"


def test_an_unknown_key_without_a_close_match_gets_the_list(path):
    error = refused(path, "zzz = 1\n" + GOOD)
    assert "zzz: unknown key" in error.detail
    assert error.remedy == "use one of: name, coordinator, parties, tls"


def test_an_unknown_key_of_an_optional_table_is_named(path):
    error = refused(path, GOOD + '[tls]\nmodee = "mutual"\n')
    assert "tls.modee" in error.detail
    assert error.remedy == "write 'mode'"


def test_an_unknown_key_of_a_table_told_apart_by_its_kind_gets_the_keys_of_that_kind(path):
    class WithBottom(Configuration):
        bottom: BottomConfig

    path.write_text('bottom = { kind = "identity", frozen = true }')
    with pytest.raises(ConfigError) as caught:
        load_toml(path, WithBottom)
    assert caught.value.remedy == "use one of: kind, scale"


def test_every_problem_is_listed(path):
    error = refused(path, GOOD.replace('endpoint = "127.0.0.1:5001"', "").replace('"shop"', '"Shop"'))
    assert "parties[0]: party 'bank' needs either an endpoint" in error.detail
    assert "parties[1].name" in error.detail
    assert "2 problem(s)" in error.summary


def test_a_contradiction_of_the_whole_file_is_explained(path):
    error = refused(path, GOOD.replace("passive", "active"))
    assert "exactly one" in error.detail


@pytest.mark.parametrize("text", ["name = ", b"name = '\xff'"])
def test_a_file_that_is_not_toml(path, text):
    assert str(path) in refused(path, text).detail


def test_a_missing_file(path):
    with pytest.raises(ConfigError, match="missing") as caught:
        load_federation(path)
    assert str(path) in caught.value.detail


def test_neither_values_nor_the_path_can_leave_the_party(path):
    error = refused(path, GOOD.replace("127.0.0.1:5001", "S3CRET"))
    assert "S3CRET" not in str(error)
    assert str(path) not in error.summary + error.remedy


class _Paths(Configuration):
    table: LocalPath


def test_relative_paths_are_beside_the_file(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "party.toml"
    file.write_text('table = "rows.csv"')
    monkeypatch.chdir(tmp_path)
    assert load_toml(Path("conf/party.toml"), _Paths).table == tmp_path / "conf" / "rows.csv"
    file.write_text('table = "/data/rows.csv"')
    assert load_toml(file, _Paths).table == Path("/data/rows.csv")


def test_a_loaded_configuration_cannot_change(path):
    path.write_text(GOOD)
    federation: FederationConfig = load_federation(path)
    with pytest.raises(ValueError, match="frozen"):
        federation.name = "other"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = " + "[" * 1000, "not valid TOML"),
        ("x = " + "9" * 4000 + "9" * 90, "more than 64 bits"),
        ("x = 0x" + "f" * 4000, "more than 64 bits"),
        ("[[x]]\ny = [[1, {z = -9223372036854775809}]]", "more than 64 bits"),
        ("x." * 3000 + "y = 1", "a line longer than"),
        ("x = 1\n" * 200_000, "longer than"),
    ],
    ids=["brackets", "digits", "hexadecimal", "nested", "key", "file"],
)
def test_what_would_take_all_memory_or_end_in_another_error_is_refused(path, text, says):
    error = refused(path, text)
    assert says in error.summary
    assert str(path) in error.detail


def test_more_digits_than_python_converts_are_refused(path, monkeypatch):
    monkeypatch.setattr("vfl.configuration.toml_files.MAX_LINE", 10_000)
    assert "not valid TOML" in refused(path, "x = " + "9" * 5000).summary


@pytest.mark.parametrize(("text", "says"), [("\\u0000", "NUL"), ("~nobody-of-this-name/x", "'~'")])
def test_a_path_that_cannot_be_one_is_refused(path, text, says):
    class WithPath(Configuration):
        file: LocalPath

    path.write_text(f'file = "{text}"')
    with pytest.raises(ConfigError) as caught:
        load_toml(path, WithPath)
    assert says in caught.value.detail


@pytest.mark.parametrize("number", ["inf", "nan"])
def test_numbers_have_to_be_finite(path, number):
    class WithSeconds(Configuration):
        seconds: float = 1.0

    path.write_text(f"seconds = {number}")
    with pytest.raises(ConfigError) as caught:
        load_toml(path, WithSeconds)
    assert "seconds: must be a finite number" in caught.value.detail
