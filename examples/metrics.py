"""What the cache did, counted: hits, misses, and seconds saved.

The published `CacheMetrics` had to be told by hand what a hit saved, lost counts between threads,
and printed. This one is an observer; the time that a hit saves was measured when its answer was
paid for, and is stored with it.
"""

from __future__ import annotations

from _client import connect, paid_calls
from pydantic import BaseModel

from instructor_cache import CacheMetrics, MemoryCache, instructor_cache

client = connect()
metrics = CacheMetrics()


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(MemoryCache(), observer=metrics)
def extract(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def main() -> None:
    for data in ["Jason is 25 years old", "Sarah is 30 years old"] * 2 + ["Jason is 25 years old"]:
        extract(data)
    for name, value in metrics.get_stats().items():
        print(f"{name}: {value}")
    assert (metrics.hits, metrics.misses, metrics.hit_rate) == (3, 2, 0.6)
    assert metrics.total_time_saved > 0.1
    assert paid_calls() == 2


if __name__ == "__main__":
    main()
