"""Coroutines that share their answers in Redis.

The published recipe used ``hash((args, kwargs))``, which raises TypeError for every call and would
differ in every process; it restored `UserDetail` whatever the function returned, and a dead Redis
broke the call. It took aioredis, which is part of redis-py now.
"""

from __future__ import annotations

import asyncio

from _client import REDIS_URL, connect_async, paid_calls, redis_answers
from pydantic import BaseModel

from instructor_cache import AsyncInstructorCache

client = connect_async()
cache = AsyncInstructorCache(REDIS_URL)


class UserDetail(BaseModel):
    name: str
    age: int


@cache.cache(ttl=3600, prefix="examples")
async def extract(data: str) -> UserDetail:
    return await client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


async def main() -> None:
    reachable = redis_answers()
    await extract.cache_clear()  # what an earlier run has left
    first = await extract("Jason is 25 years old")
    second = await extract("Jason is 25 years old")
    print(f"{second!r}, {paid_calls()} paid of 2 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert paid_calls() == (1 if reachable else 2)


if __name__ == "__main__":
    asyncio.run(main())
