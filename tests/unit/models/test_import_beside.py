"""A module beside party.toml is found, and nothing else in the process imports anything else because of it."""

import json
import sys

import pytest

from vfl.errors import ConfigError, ModelError
from vfl.models.custom import load_factory
from vfl.models.custom.beside import import_beside


@pytest.fixture(autouse=True)
def same_modules():
    before, path = dict(sys.modules), list(sys.path)
    yield
    assert sys.path == path
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def test_a_module_beside_the_file_is_found_with_what_it_imports(tmp_path):
    (tmp_path / "acme_nets.py").write_text("from acme_parts import width\ndef make(inputs, w): return width\n")
    (tmp_path / "acme_parts.py").write_text("width = 7\n")
    assert load_factory("acme_nets:make", tmp_path)(None, 0) == 7
    assert load_factory("acme_nets:make", tmp_path) is load_factory("acme_nets:make", tmp_path)


def test_a_package_beside_the_file_is_found(tmp_path):
    (tmp_path / "acme_package").mkdir()
    (tmp_path / "acme_package" / "__init__.py").touch()
    (tmp_path / "acme_package" / "nets.py").write_text("class Nets:\n    @staticmethod\n    def make(): return 3\n")
    assert load_factory("acme_package.nets:Nets.make", tmp_path)() == 3


def test_files_beside_it_do_not_take_the_place_of_installed_modules(tmp_path):
    (tmp_path / "acme_nets.py").write_text("import json, csv, wave\ndef make(): return json, csv, wave\n")
    for name in ("json", "csv", "wave"):
        (tmp_path / f"{name}.py").write_text("raise AssertionError('shadowed')\n")
    sys.modules.pop("wave", None)  # not loaded before
    assert load_factory("acme_nets:make", tmp_path)()[0] is json


def test_a_module_with_the_name_of_a_loaded_one_leaves_that_one_in_place(tmp_path):
    (tmp_path / "json.py").write_text("def make(): return 'own'\n")
    assert load_factory("json:make", tmp_path)() == "own"
    assert sys.modules["json"] is json
    assert json.loads("1") == 1


def test_two_parties_of_a_process_may_have_modules_of_one_name(tmp_path):
    for name in ("bank", "telco"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "acme_nets.py").write_text(f"def make(): return '{name}'\n")
    assert [load_factory("acme_nets:make", tmp_path / name)() for name in ("bank", "telco", "bank")] == [
        "bank",
        "telco",
        "bank",
    ]


def test_a_folder_of_that_name_that_is_no_package_is_not_taken_for_one(tmp_path):
    (tmp_path / "json").mkdir()
    assert import_beside("json", tmp_path) is json


@pytest.mark.parametrize("code", ["raise SystemExit(3)", "import acme_not_there", "def make(:", "raise StopIteration"])
def test_a_module_that_fails_while_it_is_imported_is_the_user_s_error_with_its_place(tmp_path, code):
    (tmp_path / "acme_broken.py").write_text(f"pass\n{code}\n")
    with pytest.raises(ModelError, match="raised an exception while its module was imported") as caught:
        load_factory("acme_broken:make", tmp_path)
    assert "acme_broken.py, line 2" in caught.value.detail
    assert "acme" not in caught.value.summary
    assert "acme_broken" not in sys.modules


def test_a_module_that_is_not_there_is_an_error_of_the_file(tmp_path):
    with pytest.raises(ConfigError, match="cannot be found") as caught:
        load_factory("acme_absent.nets:make", tmp_path)
    assert str(tmp_path) in caught.value.detail
    assert "beside party.toml" in caught.value.remedy
