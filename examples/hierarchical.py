"""Memory before disk before Redis: as stacked decorators, and as one `TieredCache`.

In the published recipe a hit in Redis was written to the nearer caches with a lifetime of its own,
so that an answer could outlive its hour many times over. A `TieredCache` copies it with the time
it has left, and knows all its tiers when an answer has to be forgotten. Stacked decorators don't
know of each other: what one is told to forget, the next one still has.
"""

from __future__ import annotations

from _client import REDIS_URL, connect, paid_calls, redis_answers
from pydantic import BaseModel

from instructor_cache import (
    DiskCache,
    MemoryCache,
    RedisCache,
    Tier,
    TieredCache,
    instructor_cache,
    lru,
)

client = connect()
disk, shared = DiskCache("./my_cache_directory"), RedisCache(REDIS_URL)


class UserDetail(BaseModel):
    name: str
    age: int


@lru(maxsize=100)  # L1: this process
@instructor_cache(disk)  # L2: this machine
@instructor_cache(shared, ttl="1h")  # L3: all of them
def stacked(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


@instructor_cache(TieredCache(MemoryCache(100), Tier(disk, ttl="1d"), shared), ttl="7d")
def tiered(data: str) -> UserDetail:
    return client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


def forget_earlier_runs() -> None:
    for cached in (stacked, stacked.__wrapped__, stacked.__wrapped__.__wrapped__, tiered):
        cached.cache_clear()


def main() -> None:
    redis_answers()
    forget_earlier_runs()
    for cached in (stacked, tiered):
        answers = [cached("Jason is 25 years old") for _ in range(3)]
        assert answers == [UserDetail(name="Jason", age=25)] * 3
        tier = cached.cache_explain("Jason is 25 years old").tier
        print(f"{cached.__name__}: {answers[0]!r}, now in {tier}; {cached.cache_info()}")
    tiered.cache_invalidate("Jason is 25 years old")
    assert not tiered.cache_contains("Jason is 25 years old")
    print(f"{paid_calls()} paid of 6 calls; what tiered forgets is gone from every tier")
    assert paid_calls() == 2


if __name__ == "__main__":
    main()
