from pathlib import Path

import pytest
from support.federations.federation import Federation


@pytest.fixture
def federation(tmp_path: Path) -> Federation:
    return Federation(tmp_path)
