import os
from pathlib import Path

import pytest
from support.federation import Federation


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)


@pytest.fixture
def flushed(monkeypatch):
    """Names of the files and directories that are flushed to the disk, in order."""
    names = []
    monkeypatch.setattr(os, "fsync", lambda file: names.append(Path(f"/proc/self/fd/{file}").readlink().name))
    return names
