"""A bug in a party's own bottom is that party's error: exit code 5, with file and line there, and none elsewhere."""

import asyncio
import shutil

import pytest
from support.federations import bottoms_with_bugs
from support.federations.bottoms_with_bugs import OWED
from support.federations.federation import ACTIVE, COORDINATOR, Processes
from support.federations.in_process import run_federation

CLINIC = "clinic"
RAISING = ("Late", "Exits", "ExitsLate", "Iterates", "BackwardLate", "ExitsInFactory")
NO_ANSWER = {
    "ReturnsDict": "is not a dense tensor",
    "ReturnsDictLate": "is not a dense tensor",
    "NotANumber": "is not finite",
    "NotANumberLate": "is not finite",
    "TooWideLate": "does not have the agreed shape and type",
    "IntegersLate": "does not have the agreed shape and type",
    "OutOfRangeLate": "is not within [-1, 1]",
    "StateOfItsOwn": "is not made of tensors alone",
    "Lazy": "parameters have no shape yet",
}


@pytest.fixture
def broken(federation):
    """Writes a federation in which a bottom of one party has a bug; its module lies beside that party's file."""

    def write(factory, at=CLINIC):
        federation.parties[at]["bottom"] = {"kind": "custom", "factory": factory}
        federation.write()
        shutil.copy(bottoms_with_bugs.__file__, federation.path(at, "my_bottoms.py"))
        return federation

    return write


def _errors(federation):
    return asyncio.run(asyncio.wait_for(run_federation(federation), 100)).errors


@pytest.mark.parametrize("name", RAISING)
def test_whatever_a_bottom_raises_is_shown_with_file_and_line_where_it_happened_only(broken, name):
    federation = broken(f"my_bottoms:{name}")
    errors = _errors(federation)
    assert {who: error.exit_code for who, error in errors.items()} == {CLINIC: 5, COORDINATOR: 16, ACTIVE: 15}
    assert "own bottom model raised an exception" in str(errors[CLINIC])
    assert f"{federation.path(CLINIC, 'my_bottoms.py')}, line " in str(errors[CLINIC])
    for who in (COORDINATOR, ACTIVE):
        assert "clinic: this party's own bottom model raised an exception" in str(errors[who])
        for private in (OWED, "my_bottoms", "ValueError", "SystemExit"):
            assert private not in str(errors[who])


@pytest.mark.parametrize("name", NO_ANSWER)
def test_an_output_that_cannot_be_used_is_named_whenever_it_comes(broken, name):
    errors = _errors(broken(f"my_bottoms:{name}"))
    assert {who: error.exit_code for who, error in errors.items()} == {CLINIC: 5, COORDINATOR: 16, ACTIVE: 15}
    assert all(NO_ANSWER[name] in str(error) for error in errors.values())
    assert all(OWED not in str(errors[who]) for who in (COORDINATOR, ACTIVE))


def test_the_active_party_s_bottom_may_have_a_bug_too(broken):
    errors = _errors(broken("my_bottoms:ExitsLate", at=ACTIVE))
    assert {who: error.exit_code for who, error in errors.items()} == {ACTIVE: 5, COORDINATOR: 16, CLINIC: 15}
    assert "my_bottoms.py, line " in str(errors[ACTIVE])


def test_real_processes_end_with_the_code_of_the_model(broken):
    with Processes(broken("my_bottoms:ExitsLate")) as processes:
        processes.start()
        assert processes.wait() == {CLINIC: 5, COORDINATOR: 16, ACTIVE: 15}
        assert "my_bottoms.py, line " in processes.output(CLINIC)
        for name in (CLINIC, COORDINATOR, ACTIVE):
            assert "internal error" not in processes.output(name)
            assert "report" not in processes.output(name).lower()
