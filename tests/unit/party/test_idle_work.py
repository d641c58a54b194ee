"""Material is made in advance only while the party waits, and nothing goes on or stays once the job is over."""

import os
import sys
import threading
import time

import pytest

from vfl.he.pool import Pool, Pools
from vfl.party.peers.idle_work import IdleWork

LARGE, SECONDS = 1 << 40, 10.0


class Maker:
    """Makes numbered items, each in a millisecond, and remembers when and where."""

    def __init__(self) -> None:
        self.made = 0
        self.threads: set[int] = set()
        self.priorities: set[int] = set()

    def __call__(self) -> int:
        time.sleep(0.001)
        self.made += 1
        self.threads.add(threading.get_ident())
        self.priorities.add(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        return self.made


def _until(condition) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _idle_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "idle-work"]


@pytest.fixture
def maker():
    return Maker()


@pytest.fixture
def pools():
    return Pools(LARGE)


@pytest.fixture
def pool(pools, maker) -> Pool[int]:
    return pools.pool(maker, 1)


@pytest.fixture
def work(pools):
    """Fails the test that leaves a thread behind."""
    made = IdleWork(pools)
    yield made
    made.close()
    assert not _idle_threads()


def test_nothing_is_made_before_the_party_waits(work, pool, maker):
    pool.expect(100)
    time.sleep(0.02)
    assert (maker.made, _idle_threads()) == (0, [])


def test_pools_are_filled_while_the_party_waits_and_no_longer(work, pool, maker):
    pool.expect(10_000)
    for _ in range(3):
        before = maker.made
        with work.waiting():
            _until(lambda before=before: maker.made >= before + 5)
        after = maker.made
        time.sleep(0.03)
        assert maker.made <= after + 1  # the one that was being made
    assert len(_idle_threads()) == 1
    assert maker.threads == {_idle_threads()[0].ident}


def test_full_pools_are_left_alone_and_filled_again_at_the_next_wait(work, pool, maker):
    pool.expect(3)
    with work.waiting():
        _until(lambda: len(pool) == 3)
        time.sleep(0.02)
        assert maker.made == 3
    assert pool.take(2) == [1, 2]
    time.sleep(0.02)
    assert maker.made == 3
    with work.waiting():
        _until(lambda: len(pool) == 3)
    assert pool.take(3) == [3, 4, 5]


def test_a_full_pool_costs_no_time(work, pool):
    pool.expect(1)
    with work.waiting():
        _until(lambda: len(pool) == 1)
        before = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - before < 0.1


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_idle_work_yields_to_everything_else_and_only_its_own_thread_does(work, pool, maker):
    pool.expect(1)
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with work.waiting():
        _until(lambda: len(pool) == 1)
    assert maker.priorities == {10}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_closing_ends_the_thread_and_drops_what_was_made(work, pools, pool, maker):
    pool.expect(10_000)
    with work.waiting():
        _until(lambda: maker.made >= 3)
    (thread,) = _idle_threads()
    work.close()
    work.close()
    assert not thread.is_alive()
    assert (len(pool), pools.stored_bytes) == (0, 0)


def test_closing_while_the_party_waits_ends_the_thread_and_harms_nobody(work, pools, pool, maker):
    pool.expect(10_000)
    with work.waiting():
        _until(lambda: maker.made >= 3)
        (thread,) = _idle_threads()
        work.close()
        assert not thread.is_alive()
    made = maker.made
    time.sleep(0.02)
    assert maker.made == made
    assert pools.stored_bytes == 0
    assert pool.take(1) == [made + 1]


def test_closing_while_it_sleeps_over_a_full_pool_ends_the_thread(work, pool):
    pool.expect(1)
    with work.waiting():
        _until(lambda: len(pool) == 1)
        time.sleep(0.01)
        (thread,) = _idle_threads()
        work.close()
    assert not thread.is_alive()


def test_nothing_starts_once_it_is_closed(work, pool, maker):
    pool.expect(10)
    work.close()
    with work.waiting():
        time.sleep(0.02)
    assert (maker.made, _idle_threads()) == (0, [])


def test_a_wait_that_ends_just_after_closing_does_not_keep_the_thread(work):
    for _ in range(200):
        other = IdleWork(Pools())
        with other.waiting():
            other.close()
        assert not _idle_threads()


def test_closing_waits_for_the_item_in_the_making(work, pools):
    begun = threading.Event()

    def make() -> int:
        begun.set()
        time.sleep(0.2)
        return 1

    pool = pools.pool(make, 1)
    pool.expect(1)
    with work.waiting():
        assert begun.wait(SECONDS)
    work.close()
    assert not _idle_threads()
    assert (len(pool), pools.stored_bytes) == (0, 0)


def test_an_error_of_the_party_while_it_waits_stops_the_filling(work, pool, maker):
    pool.expect(10_000)

    def fail() -> None:
        with work.waiting():
            _until(lambda: maker.made >= 3)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    made = maker.made
    time.sleep(0.02)
    assert maker.made <= made + 1
