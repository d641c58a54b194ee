import os
import stat
from pathlib import Path

import pytest

from vfl.errors import ConfigError
from vfl.party.private_seed import SEED_BYTES, load_private_seed


def test_a_seed_is_made_once_and_readable_by_its_owner_only(tmp_path):
    path = tmp_path / "keys" / "private_seed"
    before = os.umask(0)
    try:
        seed = load_private_seed(path)
    finally:
        os.umask(before)
    assert len(seed) == SEED_BYTES
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_private_seed(path) == seed
    assert load_private_seed(tmp_path / "other") != seed


def test_a_seed_is_there_whole_or_not_at_all(tmp_path, monkeypatch, flushed):
    def fails(*_):
        raise OSError("no")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fails)
        with pytest.raises(ConfigError, match="the private seed file cannot be used"):
            load_private_seed(tmp_path / "private_seed")
    assert list(tmp_path.iterdir()) == []
    flushed.clear()
    load_private_seed(tmp_path / "private_seed")
    draft, directory = flushed
    assert draft.startswith(".private_seed.")
    assert directory == tmp_path.name


@pytest.mark.parametrize("content", ["", "not a seed", "ab" * (SEED_BYTES - 1), "ab" * (SEED_BYTES + 1), "é" * 64])
def test_a_file_that_holds_no_seed_is_refused_and_left_alone(tmp_path, content):
    path = tmp_path / "private_seed"
    path.write_text(content, encoding="utf-8")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="the private seed file cannot be used") as raised:
        load_private_seed(path)
    assert str(path) in raised.value.detail
    assert str(path) not in raised.value.summary
    assert content == "" or content not in str(raised.value)
    assert "remove it" in raised.value.remedy
    assert path.read_text(encoding="utf-8") == content


def test_a_seed_that_cannot_be_written_is_an_error_of_the_configuration(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="the private seed file cannot be used"):
        load_private_seed(tmp_path / "file" / "private_seed")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602])
def test_a_seed_that_others_can_read_or_change_is_refused(tmp_path, mode):
    path = tmp_path / "private_seed"
    seed = load_private_seed(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="can be read or changed by users other than its owner") as raised:
        load_private_seed(path)
    assert "chmod 600" in raised.value.remedy
    path.chmod(0o600)
    assert load_private_seed(path) == seed
