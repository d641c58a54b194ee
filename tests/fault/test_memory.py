"""A party that is refused memory says so, ends, and the run goes on when it has more."""

from __future__ import annotations

import resource
import signal
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import virtual_time
from support.faults.recovering import Watcher, run_here, small_federation
from support.faults.supervised import TESTS
from support.federations.federation import ACTIVE, COORDINATOR, Processes, differing

from vfl.errors import MemoryExhausted, memory_exhausted

CLINIC = "clinic"
PAGES_FIELD = 0
MEGABYTE, GIGABYTE = 1 << 20, 1 << 30


def address_space(process="self"):
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[PAGES_FIELD])
    return pages * resource.getpagesize()


@contextmanager
def limit_of_this_process():
    """Gives a function that lets this process grow by a gigabyte and no more, until the context ends."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_AS, (address_space() + GIGABYTE, before[1]))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def hungry(tmp_path):
    def make(folder):
        (tmp_path / folder).mkdir()
        federation = small_federation(tmp_path / folder)
        federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": "support.faults.hungry:Hungry"}
        return federation.write()

    return make


def test_memory_that_is_refused_is_told_to_all_and_the_run_goes_on_with_more(hungry):
    undisturbed, federation = hungry("undisturbed"), hungry("limited")
    virtual_time.run(run_here(undisturbed))
    at = []
    with limit_of_this_process() as limit:
        ended = virtual_time.run(run_here(federation, Watcher({4: lambda: at.append(time.monotonic()) or limit()})))
        assert time.monotonic() - at[0] < 20
    assert isinstance(ended.errors[CLINIC], MemoryExhausted)
    assert ended.errors[CLINIC].summary == "there was not enough memory for bottom_forward of step 6"
    assert "alloc" in ended.errors[CLINIC].detail
    assert ended.errors[COORDINATOR].summary == f"{CLINIC}: {ended.errors[CLINIC].summary}"
    assert ended.errors[COORDINATOR].remote_code == "memory"
    assert "give this process more memory" in ended.errors[COORDINATOR].remedy
    assert ended.errors[CLINIC].summary in ended.errors[ACTIVE].summary
    ended = virtual_time.run(run_here(federation, resume=True))
    assert ended.errors == dict.fromkeys(ended.errors)
    assert differing(federation.everything_saved(), undisturbed.everything_saved()) == []


@pytest.mark.faults_full
def test_a_process_that_is_left_hardly_any_memory_ends_or_says_so_within_seconds(tmp_path):
    federation = small_federation(tmp_path, epochs=200)
    federation.job["timeouts"] |= {"reconnect": 30.0}
    # A process reuses what it has freed: one that needs the same in every step would never meet the limit.
    federation.parties[CLINIC]["bottom"] = {"kind": "custom", "factory": "support.faults.hungry:Growing"}
    with Processes(federation.write(), TESTS) as processes:
        processes.start()
        processes.wait_for(COORDINATOR, "epoch 1/200")
        number = processes.numbers()[CLINIC]
        limit = address_space(number) + 4 * MEGABYTE
        resource.prlimit(number, resource.RLIMIT_AS, (limit, limit))
        codes = processes.wait(90)
        assert codes[CLINIC] in (MemoryExhausted.exit_code, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGKILL, 15)
        assert codes[COORDINATOR] in (11, 16)
        assert codes[ACTIVE] == 15
        assert CLINIC in processes.output(COORDINATOR)


def nested(error):
    try:
        raise ValueError("while doing something") from error
    except ValueError as raised:
        return raised


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("can't start new thread"),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"),
        nested(MemoryError()),
    ],
)
def test_every_way_to_refuse_memory_is_known(error):
    known = memory_exhausted(error, "loading the table")
    assert known is not None
    assert known.code == "memory"
    assert known.summary == "there was not enough memory for loading the table"


@pytest.mark.parametrize("error", [ValueError("x"), OSError(28, "No space left"), RuntimeError("shape mismatch")])
def test_other_errors_are_not_taken_for_it(error):
    assert memory_exhausted(error, "loading the table") is None
