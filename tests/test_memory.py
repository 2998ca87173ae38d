"""The memory tier: what goes first when room is needed, what an entry takes, and how fast it is."""

from __future__ import annotations

import functools
import gc
import itertools
import statistics
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import pytest
from conftest import timed

from instructor_cache import MemoryCache, instructor_cache
from instructor_cache.backends._order import Order

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from hit_ratio import TRACES, compare


class Clock:
    """A clock that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


# -- how often it hits -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRACES)
def test_it_hits_as_often_as_lru(name: str) -> None:
    """On every trace of the benchmark, with little room and with more, at most 0.01 below LRU."""
    for size in (5, 60, 300):
        for ours, lru in compare(name, size, (11, 12), 20):
            assert ours >= lru - 0.01


def test_a_small_one_is_an_exact_lru() -> None:
    """Among a few entries, what goes is always what was used longest ago, reads included."""
    draw, cache, order = Random(5), MemoryCache(8), dict[str, None]()
    for _ in range(5000):
        key = f"{draw.randrange(12)}"
        assert (cache.get(key) is not None) == (key in order)
        if order.pop(key, key) is key:
            cache.set(key, b"", None)
        order[key] = None
        if len(order) > 8:
            del order[next(iter(order))]


def test_the_reads_of_very_many_are_sorted_out_a_few_at_a_time() -> None:
    """After reads of all of many entries, no set moves more than some, yet the order comes out."""
    cache, size = MemoryCache(5000), 5000
    for number in range(size):
        cache.set(f"{number}", b"", None)
    for number in reversed(range(size)):
        cache.get(f"{number}")
    for number in range(20):
        places = {key: slot.placed for key, slot in cache._slots.items()}
        cache.set(f"new {number}", b"", None)
        moved = [
            key for key in places.keys() & cache._slots if cache._slots[key].placed != places[key]
        ]
        assert len(moved) <= 600
    for number in range(1000):
        cache.set(f"newer {number}", b"", None)
    assert [number for number in range(size) if f"{number}" in cache._slots][-1] < 4000


# -- the expired go first --------------------------------------------------------------------------


def test_nothing_alive_goes_while_something_has_expired() -> None:
    """However often keys are read, overwritten and deleted, room is made by the expired first."""
    draw, clock = Random(3), Clock()
    cache = MemoryCache(50, clock=clock)
    until: dict[str, float] = {}
    for _ in range(8000):
        clock.now += draw.choice([0, 0, 0.1, 1])
        key = f"{draw.randrange(120)}"
        match draw.randrange(10):
            case 0:
                cache.delete(key)
            case 1 | 2 | 3:
                cache.get(key)
            case _:
                before = set(cache._slots)
                ttl = draw.choice([None, 0.5, 5.0, 50.0])
                cache.set(key, b"", ttl)
                gone = before - set(cache._slots)
                until[key] = float("inf") if ttl is None else clock.now + ttl
                if any(until[name] > clock.now for name in gone):
                    assert all(until[name] > clock.now for name in cache._slots)


@pytest.mark.parametrize("room", [50, None])
def test_there_is_one_moment_for_each_entry_that_expires(room: int | None) -> None:
    """Overwriting, evicting, deleting and clearing leave no moment behind, and lose none."""
    draw, cache = Random(7), MemoryCache(room)
    for number in range(10_000):
        key = f"{draw.randrange(100)}"
        cache.set(key, b"", draw.choice([None, 3600 + draw.randrange(7)]))
        if number % 5 == 0:
            cache.delete(f"{draw.randrange(100)}")
        if number % 1000 == 0:
            cache.clear("1")
        assert len(cache._uses) == len(cache)
        if number % 100 == 0:
            dues = [slot.due for slot in cache._slots.values() if slot.due is not None]
            assert sorted(dues) == [s.due for s in in_order(cache._dues)]
    cache.clear()
    assert len(cache._dues) == len(cache._uses) == cache.currbytes == 0


def in_order(order: Order[Any]) -> list[Any]:
    """The items of *order*, the first one first."""
    return [item for run in order._runs for item in run]


# -- nobody waits for long -------------------------------------------------------------------------


class Held:
    """A lock that notes for how long, in seconds of the thread's own, it was held at most."""

    longest = 0.0

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._since = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.longest = max(self.longest, time.thread_time() - self._since)
        self._lock.release()

    def _is_owned(self) -> bool:
        return False


@timed
@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    ("size", "most"), [(20_000, 0.01), pytest.param(100_000, 0.03, marks=pytest.mark.slow)]
)
def test_no_operation_holds_the_lock_for_long(size: int, most: float) -> None:
    """With many entries refreshed, read, expired, listed and cleared, none keeps others waiting."""
    clock = Clock()
    cache = MemoryCache(size, max_bytes=None, clock=clock)
    for ttl in (3600, 3700, None):
        for number in range(size):
            cache.set(f"{number}", b"", ttl)
            cache.get(f"{number}")
    clock.now += 3650
    cache._lock = held = Held()  # type: ignore[assignment]
    cache.set("new", b"", None)
    assert not list(cache.scan("x"))
    cache.clear("1")
    cache.clear()
    assert held.longest < most


# -- it stays right whatever happens ---------------------------------------------------------------


class Interrupt(BaseException):
    """What a signal's handler raises at any point."""


def interrupted(work: Callable[[], object], after: int) -> bool:
    """Do *work*; tell if it was cut short by an exception after so many lines of the memory."""
    left, former = after, sys.gettrace()

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        code = frame.f_code  # not where a lock is taken and freed: no signal comes in between
        inner = code.co_name.startswith("_") or code.co_filename.endswith("_order.py")
        left -= event == "line" and inner and "instructor_cache" in code.co_filename
        if left < 0:
            raise Interrupt
        return trace

    sys.settrace(trace)
    try:
        work()
    except Interrupt:
        return True
    finally:
        sys.settrace(former)
    return False


def test_an_exception_at_any_point_leaves_the_counts_right() -> None:
    """Wherever a set, swap, delete or clear is cut short, what comes next finds all in order."""
    clock = Clock()

    def full() -> MemoryCache:
        cache = MemoryCache(5, max_bytes=5000, clock=clock)
        for number in range(5):
            cache.set(f"{number}", bytes(100), number or None)
        return cache

    works: list[Callable[[MemoryCache], object]] = [
        lambda cache: cache.set("new", b"", 5),
        lambda cache: cache.set("3", bytes(600), 1),
        lambda cache: cache.swap("0", bytes(100), bytes(7), 9),
        lambda cache: cache.delete("2"),
        lambda cache: cache.clear("1"),
        lambda cache: cache.clear(),
    ]
    for work in works:
        lines = 0
        while interrupted(functools.partial(work, cache := full()), lines):
            lines += 1
            kept = {key: slot.value for key, slot in cache._slots.items()}
            assert cache.currbytes == sum(len(key) + len(v) + 320 for key, v in kept.items())
            for number in range(10):
                cache.set(f"later {number}", bytes(100), None)
            assert len(cache) == len(cache._uses) == 5
            assert len(cache._dues) == 0
            assert cache.currbytes == 5 * (len("later 0") + 100 + 320)
        assert lines > 5


# -- what one entry takes --------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [None, 3600.0])
@pytest.mark.parametrize(
    "key",
    ["instructor_cache:app.extract:1f2e:", "\u0416" * 300, "\U0001f600" * 90],
    ids=["ascii", "two bytes", "four bytes"],
)
def test_the_bytes_that_are_counted_are_those_that_are_used(key: str, ttl: float | None) -> None:
    """What Python takes for thousands of entries, set again and read, is about what is counted."""
    gc.collect()
    tracemalloc.start()
    try:
        cache = MemoryCache(None, max_bytes=None)
        before = tracemalloc.get_traced_memory()[0]
        for number in [*range(3000), *range(3000)]:
            cache.set(f"{key}{number:040}", bytes(300), ttl)
            cache.get(f"{key}{number:040}")
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * cache.currbytes < used < 1.1 * cache.currbytes


def test_one_huge_entry_does_not_wash_out_the_others() -> None:
    """By default what takes more than an eighth of the room is not kept, nor its older value."""
    cache = MemoryCache(max_bytes=800_000)
    for number in range(100):
        cache.set(f"{number}", bytes(1000), None)
    cache.set("huge", b"small once", None)
    for value in (bytes(790_000), bytes(100_000)):
        cache.set("huge", value, None)
        assert cache.get("huge") is None
    cache.set("huge", bytes(99_000), None)
    assert cache.get("huge") == bytes(99_000)
    assert not cache.swap("huge", b"other", bytes(790_000), None)
    assert cache.swap("huge", bytes(99_000), bytes(790_000), None)
    assert cache.get("huge") is None
    assert all(cache.get(f"{number}") for number in range(100))


@pytest.mark.parametrize(
    ("max_bytes", "given", "largest"),
    [
        *((None, None, None), (None, 500, 500), (800_000, None, 100_000)),
        *((10_000, None, 4096), (1000, None, 1000), (1000, 500, 500), (1000, 5000, 1000)),
    ],
)
def test_how_large_an_entry_may_be(
    max_bytes: int | None, given: int | None, largest: int | None
) -> None:
    """An eighth of the room unless something else is said, never above it; 4 KiB always fit."""
    cache = MemoryCache(max_bytes=max_bytes, max_entry_bytes=given)
    assert cache.max_entry_bytes == largest
    if largest is not None:
        cache.set("k", bytes(largest - 321), None)
        assert cache.get("k") is not None
        cache.set("k", bytes(largest - 320), None)
        assert cache.get("k") is None


def test_cache_info_tells_the_bytes() -> None:
    """cache_info has functools' fields first, then the bytes of a nearest tier that knows them."""
    memory = MemoryCache(10, max_bytes=5000)

    @instructor_cache(memory, returns=int)
    def double(number: int) -> int:
        return 2 * number

    assert double.cache_info() == (0, 0, 10, 0, 5000, 0)
    double(1), double(1)
    info = double.cache_info()
    assert info == (1, 1, 10, 1, 5000, memory.currbytes)
    assert info._fields[:4] == functools.lru_cache(print).cache_info()._fields


# -- how fast it is --------------------------------------------------------------------------------


def cost(work: Callable[[], object]) -> float:
    """Seconds of this thread, which other programs on the machine don't change much."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@timed
@pytest.mark.slow
@pytest.mark.usefixtures("no_collection")
def test_a_million_sets_with_a_ttl_do_not_slow_down() -> None:
    """The last of a million sets, new, overwriting or evicting, cost what the first ones do."""
    growing, full = MemoryCache(None, max_bytes=None), MemoryCache(10_000, max_bytes=None)
    numbers = itertools.count()

    def some(cache: MemoryCache, keys: int) -> None:
        for number in itertools.islice(numbers, 17_000):
            cache.set(f"{number % keys}", b"", 3600)

    for cache, keys in ((growing, 10**9), (full, 10**9), (growing, 1000)):
        costs = [cost(lambda c=cache, k=keys: some(c, k)) for _ in range(20)]
        assert statistics.median(costs[-5:]) < 2 * statistics.median(costs[:5])


@timed
@pytest.mark.slow
@pytest.mark.usefixtures("no_collection")
def test_a_hot_hit_among_a_million_costs_little_more_than_among_a_thousand() -> None:
    """A hundred hot entries are read at nearly the same cost, however many others there are."""
    few, many = MemoryCache(None, max_bytes=None), MemoryCache(None, max_bytes=None)
    for cache, size in ((few, 1000), (many, 1_000_000)):
        for number in range(size):
            cache.set(f"key:{number}", b"x" * 100, None)

    def read(cache: MemoryCache, step: int) -> float:
        keys, get = [f"key:{number * step}" for number in range(100)], cache.get
        return cost(lambda: [get(key) for _ in range(300) for key in keys])

    ratios = [read(many, 9999) / read(few, 9) for _ in range(15)]
    assert statistics.median(ratios) <= 1.5
