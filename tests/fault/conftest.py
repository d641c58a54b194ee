import pytest
from support.fault_matrix import Quiet


@pytest.fixture(scope="session")
def quiet() -> Quiet:
    return Quiet()
