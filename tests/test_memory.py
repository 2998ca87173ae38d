"""The memory tier: what goes first when room is needed, what an entry takes, and how fast it is."""

from __future__ import annotations

import functools
import gc
import itertools
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from instructor_cache import MemoryCache, instructor_cache

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


def test_the_reads_of_millions_are_noted_a_few_at_a_time() -> None:
    """After reads of all of many entries, no single set moves more of them than a few thousand."""
    cache = MemoryCache(20_000)
    for number in range(20_000):
        cache.set(f"{number}", b"", None)
    for number in range(20_000):
        cache.get(f"{number}")
    cache.set("new", b"", None)
    assert len(cache._read) > 20_000 - 5000
    for number in range(10):
        cache.set(f"new {number}", b"", None)
    assert len(cache._read) == 0


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
def test_the_moments_of_what_is_gone_are_forgotten(room: int | None) -> None:
    """Overwriting, evicting and deleting without end keeps a few moments for each entry."""
    cache = MemoryCache(room)
    for number in range(30_000):
        cache.set(f"{number % 100}", b"", 3600 + number % 7)
        if number % 5 == 0:
            cache.delete(f"{number % 100}")
        assert len(cache._expiries) <= 4 * 100 + 256
    cache.clear()
    assert len(cache._expiries) == 0


def test_what_is_read_and_overwritten_is_not_noted_without_end() -> None:
    """Reads of entries that are replaced again and again leave no growing list."""
    cache = MemoryCache(1000)
    for number in range(5000):
        cache.set(f"{number % 10}", b"", None)
        cache.get(f"{number % 10}")
        assert len(cache._read) <= 11


# -- what one entry takes --------------------------------------------------------------------------


@pytest.mark.parametrize("ttl", [None, 3600.0])
def test_the_bytes_that_are_counted_are_those_that_are_used(ttl: float | None) -> None:
    """What Python takes for some thousand entries is at most what is counted, and not far less."""
    gc.collect()
    tracemalloc.start()
    try:
        cache = MemoryCache(None, max_bytes=None)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(3000):
            cache.set(f"instructor_cache:app.extract:1f2e:{number:040}", bytes(300), ttl)
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 * cache.currbytes < used < 1.05 * cache.currbytes


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
