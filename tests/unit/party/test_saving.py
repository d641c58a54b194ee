"""The trained model is on the disk when the coordinator hears that it is saved, and only its party can read it."""

import dataclasses
import os
import stat

import pytest
import torch
from support.federations.federation import Federation

from vfl.data.inference import Understood
from vfl.errors import ConfigError
from vfl.party.config import load_party
from vfl.party.roles.saving import make_output, save_passive
from vfl.party.roles.worker import LoadedRows

CLINIC = "clinic"


@dataclasses.dataclass
class _Preprocessor:
    def to_json(self):
        return "{}"


@pytest.fixture
def state(tmp_path):
    """What saving needs of a party's state."""
    setup = load_party(Federation(tmp_path, passive=(CLINIC,)).write().path(CLINIC))
    facts = {"preprocessor": _Preprocessor(), "labels": None, "understood": Understood((), {}, {})}
    dataset = type("Dataset", (), facts | {"rows_of": lambda self, split: (), "__len__": lambda self: 0})()
    found = {"setup": setup, "bottom": None, "width": 2, "dataset": dataset, "loaded_rows": LoadedRows(3, 0)}
    return type("State", (), found | {"attempts": 1, "interruptions": ()})


def saved(state):
    return save_passive(state, "job-1", {"sh_w": torch.ones(2, 2).numpy()})


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


FILES = {
    "model.safetensors",
    "interaction.safetensors",
    "preprocessing.json",
    "model.json",
    "report.json",
    "report.txt",
}


def test_files_are_flushed_before_they_get_their_names_and_the_names_after(state, flushed):
    directory = saved(state)
    drafts, (folder, parent) = flushed[-8:-2], flushed[-2:]
    assert {name[1:].rpartition(".")[0] for name in drafts} == FILES
    assert (folder, parent) == ("job-1", directory.parent.name)
    assert {path.name for path in directory.iterdir()} == FILES


def test_nobody_else_can_read_a_model_whatever_the_umask(state):
    before = os.umask(0)
    try:
        make_output(state.setup.config.output)
        directory = saved(state)
        saved(state)
    finally:
        os.umask(before)
    assert modes(directory) == dict.fromkeys(FILES, 0o600)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700


def test_a_folder_that_was_open_to_others_is_closed_to_them(state):
    folder = state.setup.config.output / "job-1"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    saved(state)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


# --- an output folder that others can write to ---


def test_a_link_in_place_of_the_folder_of_a_run_is_refused(state, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    state.setup.config.output.mkdir()
    (state.setup.config.output / "job-1").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="the trained model cannot be saved") as raised:
        saved(state)
    assert "no symbolic link" in raised.value.remedy
    assert list(elsewhere.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(state):
    folder = state.setup.config.output / "job-1"
    folder.mkdir(parents=True)
    os.chown(folder, 65534, 65534)
    with pytest.raises(ConfigError, match="the trained model cannot be saved") as raised:
        saved(state)
    assert "belongs to another user" in raised.value.detail
    assert list(folder.iterdir()) == []


def test_links_in_the_folder_of_a_run_are_replaced_and_not_followed(state, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="ascii")
    folder = state.setup.config.output / "job-1"
    folder.mkdir(parents=True)
    for name in (*FILES, *(f".{name}.draft" for name in FILES)):
        (folder / name).symlink_to(victim)
    saved(state)
    assert victim.read_text(encoding="ascii") == "mine"
    assert not any((folder / name).is_symlink() for name in FILES)
