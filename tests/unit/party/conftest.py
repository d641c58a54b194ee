import os
from pathlib import Path

import pytest
from support.checkpoints import KEY
from support.federation import Federation

from vfl.checkpoints.store import CheckpointConfig


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def flushed(monkeypatch):
    """Names of the files and directories that are flushed to the disk, in order."""
    names = []
    monkeypatch.setattr(os, "fsync", lambda file: names.append(Path(f"/proc/self/fd/{file}").readlink().name))
    return names


@pytest.fixture
def store_config(tmp_path: Path) -> CheckpointConfig:
    return CheckpointConfig(directory=tmp_path / "checkpoints")


@pytest.fixture(params=[False, True], ids=["plain", "encrypted"])
def any_store_config(request, store_config, monkeypatch) -> CheckpointConfig:
    """Without and with a key."""
    monkeypatch.setenv(KEY, "5a" * 32)
    return store_config.model_copy(update={"key_variable": KEY if request.param else None})
