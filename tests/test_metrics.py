"""What CacheMetrics counts."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Colour, timed
from pydantic import BaseModel

from instructor_cache import CacheMetrics, Event, MemoryCache, instructor_cache


class User(BaseModel):
    name: str


@timed
async def test_metrics_count_per_function(colour: Colour):
    """Hits, misses and the measured seconds of the original call, in the guide's shape."""
    metrics = CacheMetrics()

    def body(text: str) -> User:
        time.sleep(0.02)
        return User(name=text)

    f = instructor_cache(MemoryCache(), observer=metrics)(colour.function(body))
    for text in ("a", "a", "a", "b"):
        await colour.call(f, text)
    assert (metrics.hits, metrics.misses, metrics.hit_rate) == (2, 2, 0.5)
    assert 0.04 <= metrics.total_time_saved < 0.4
    stats = metrics.get_stats()
    assert stats["hit_rate"] == "50.00%"
    assert (stats["total_hits"], stats["total_misses"]) == (2, 2)
    assert float(stats["time_saved_seconds"]) == pytest.approx(metrics.total_time_saved, abs=1e-3)
    ((name, counts),) = stats["function_stats"].items()
    assert name.endswith("body")
    assert counts == {"hits": 2, "misses": 2}


def test_metrics_begin_empty_and_record_by_hand():
    """No call, no rate; the guide's record methods count too."""
    metrics = CacheMetrics()
    assert metrics.hit_rate == 0.0
    metrics.record_hit("f", 0.5)
    metrics.record_miss("f")
    assert metrics.get_stats()["function_stats"] == {"f": {"hits": 1, "misses": 1}}
    assert metrics.total_time_saved == 0.5


def test_metrics_are_thread_safe():
    """Eight threads lose no count."""
    metrics = CacheMetrics()

    def count(_: int) -> None:
        for _ in range(2000):
            metrics(Event("hit", "f", seconds=0.5))
            metrics(Event("miss", "g"))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert (metrics.hits, metrics.misses, metrics.total_time_saved) == (16000, 16000, 8000.0)


def test_a_restart_keeps_the_seconds():
    """The seconds are stored with the answer: a later process's hits save the same time."""
    memory, metrics = MemoryCache(), CacheMetrics()

    def extract(text: str) -> User:
        time.sleep(0.02)
        return User(name=text)

    instructor_cache(memory)(extract)("a")
    instructor_cache(memory, observer=metrics)(extract)("a")
    assert metrics.total_time_saved >= 0.02
