"""What the scripts install is pinned, with hashes, and nothing under the GPL is in what is distributed."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_HASHES = {"torch", "atheris"}
"""torch comes from the index with the right build, atheris is installed by scripts/fuzz.sh alone."""
BUILD = {"hatchling", "editables", "trove-classifiers", "tomlkit", "setuptools"}


def pinned(name):
    found = re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
    return {project.lower().replace("_", "-"): version for project, version in found}


def test_every_constraint_has_hashes_and_the_same_version():
    constraints, locked = pinned("constraints.txt"), pinned("requirements.lock")
    assert {name: v for name, v in constraints.items() if name not in WITHOUT_HASHES} == {
        name: v for name, v in locked.items() if name not in BUILD
    }
    for block in re.split(r"^(?=\S+==)", (ROOT / "requirements.lock").read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1:
    ]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", block, re.MULTILINE), block.split()[0]


def test_the_build_backend_is_the_locked_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["build-system"]["requires"] == [f"hatchling=={pinned('requirements.lock')['hatchling']}"]


def test_what_is_under_the_gpl_is_imported_by_benchmarks_only():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert not any(each.startswith("phe") for each in project["dependencies"])
    importing = re.compile(r"^\s*(?:import phe|from phe)\b", re.MULTILINE)
    users = [path for folder in ("vfl", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    found = {path.relative_to(ROOT).parts[0] for path in users if importing.search(path.read_text(encoding="utf-8"))}
    assert found <= {"benchmarks"}
