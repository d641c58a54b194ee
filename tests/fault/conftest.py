import pytest
from support.faults.matrix import Quiet


@pytest.fixture(scope="session")
def quiet() -> Quiet:
    return Quiet()
