"""A pool hands out every item once, is filled as far as is expected and fits, and stays empty once it is closed."""

import itertools
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vfl.he.arithmetic.compute import computing
from vfl.he.pool import Pool, Pools

MANY = 1 << 40


def _counter(pools: Pools, item_bytes: int = 1) -> Pool[int]:
    """A pool of numbers, none of which is made twice."""
    return pools.pool(itertools.count().__next__, item_bytes)


def _fill(pools: Pools) -> int:
    made = 0
    while pools.fill_one():
        made += 1
    return made


# --- every item once ---


@settings(max_examples=100, deadline=None)
@given(
    actions=st.lists(st.tuples(st.sampled_from(["take", "fill", "expect", "clear"]), st.integers(0, 6)), max_size=40),
    budget=st.integers(0, 8),
)
def test_nothing_is_handed_out_twice_whatever_happens(actions, budget):
    pools = Pools(budget)
    pool, taken = _counter(pools), []
    for action, count in actions:
        if action == "take":
            taken += pool.take(count)
        elif action == "expect":
            pool.expect(count)
        elif action == "clear":
            pool.clear()
        else:
            for _ in range(count):
                pools.fill_one()
        assert len(pool) <= budget
    assert len(set(taken)) == len(taken) == sum(count for action, count in actions if action == "take")


def test_what_was_made_first_goes_first_and_the_rest_is_made_now():
    pools = Pools(MANY)
    pool = _counter(pools)
    pool.expect(3)
    assert _fill(pools) == 3
    assert pool.take(2) == [0, 1]
    assert pool.take(3) == [2, 3, 4]
    assert pool.take(0) == []
    assert len(pool) == 0


@pytest.fixture
def eager_switching():
    """Threads take turns as often as they can, in the middle of whatever they do."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_eight_threads_and_one_that_fills_never_get_an_item_twice(eager_switching):
    pools = Pools(30)
    pool, stop = _counter(pools), threading.Event()
    pool.expect(30)

    def fill() -> int:
        made = 0
        while not stop.is_set():
            made += pools.fill_one()
        return made

    with ThreadPoolExecutor(9) as executor:
        filling = executor.submit(fill)
        takes = [executor.submit(pool.take, 1 + number % 5) for number in range(2000)]
        taken = [item for take in takes for item in take.result()]
        stop.set()
        assert filling.result() > 0
    assert len(taken) == sum(1 + number % 5 for number in range(2000))
    assert len(set(taken)) == len(taken)


def test_items_made_on_the_spot_are_made_by_several_threads_and_kept_apart():
    with computing(4, "cpu"):
        pool = _counter(Pools())
        assert sorted(pool.take(100)) == list(range(100))


# --- the budget ---


@given(budget=st.integers(0, 100), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_pools_keep_no_more_than_their_budget(budget, sizes):
    pools = Pools(budget)
    for size in sizes:
        _counter(pools, size).expect(50)
    while pools.fill_one():
        assert pools.stored_bytes <= budget
    assert pools.stored_bytes <= budget
    if max(sizes) == min(sizes):
        assert pools.stored_bytes == min(budget // sizes[0], 50 * len(sizes)) * sizes[0]


def test_room_is_free_again_when_items_are_taken():
    pools = Pools(4)
    pool = _counter(pools, 2)
    pool.expect(5)
    assert _fill(pools) == 2
    assert pools.stored_bytes == 4
    pool.take(1)
    assert pools.stored_bytes == 2
    assert _fill(pools) == 1


def test_without_a_budget_nothing_is_kept():
    pools = Pools()
    pool = _counter(pools)
    pool.expect(5)
    assert not pools.fill_one()
    assert pool.take(2) == [0, 1]


# --- what is expected ---


def test_a_pool_is_filled_up_to_the_largest_announced_number():
    pools = Pools(MANY)
    pool = _counter(pools)
    assert _fill(pools) == 0
    for count, missing in ((3, 3), (5, 5), (2, 5), (0, 5)):
        pool.expect(count)
        assert pool.missing == missing
    assert _fill(pools) == 5
    assert (pool.missing, len(pool)) == (0, 5)
    pool.take(4)
    assert pool.missing == 4
    assert _fill(pools) == 4


def test_the_pool_that_lacks_most_is_filled_first():
    pools = Pools(MANY)
    few, many = _counter(pools), _counter(pools)
    few.expect(2)
    many.expect(4)
    for _ in range(3):
        pools.fill_one()
    assert (len(few), len(many)) in {(0, 3), (1, 2)}
    assert _fill(pools) == 3
    assert not Pools(MANY).fill_one()


# --- closing ---


def test_closed_pools_are_empty_and_stay_so():
    pools = Pools(MANY)
    pool = _counter(pools)
    pool.expect(3)
    _fill(pools)
    pools.close()
    pools.close()
    assert (len(pool), pools.stored_bytes) == (0, 0)
    assert not pools.fill_one()
    assert pool.take(2) == [3, 4]
    assert len(pool) == 0


def test_an_item_that_is_being_made_while_the_pools_close_is_dropped_too():
    pools, started, go_on = Pools(MANY), threading.Event(), threading.Event()

    def make() -> str:
        started.set()
        assert go_on.wait(10)
        return "secret"

    pool = pools.pool(make, 1)
    pool.expect(5)
    filling = threading.Thread(target=_fill, args=(pools,), daemon=True)
    filling.start()
    assert started.wait(10)
    pools.close()
    go_on.set()
    filling.join(10)
    assert not filling.is_alive()
    assert (len(pool), pools.stored_bytes) == (0, 0)


def test_an_item_that_cannot_be_made_leaves_the_pool_as_it_was():
    pools = Pools(MANY)
    pool = pools.pool(lambda: 1 // 0, 1)
    pool.expect(1)
    for attempt in (pools.fill_one, lambda: pool.take(1)):
        with pytest.raises(ZeroDivisionError):
            attempt()
    assert len(pool) == 0
