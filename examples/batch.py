"""A batch that asks once for every different item, however often it is in there.

In the published recipe equal items that `asyncio.gather` starts together all miss, and all are
paid for. Here calls with one key share one call in flight, and `cache_map` bounds how many run.
"""

from __future__ import annotations

import asyncio

from _client import connect_async, paid_calls
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

client = connect_async()

PEOPLE = ["Jason is 25 years old", "Sarah is 30 years old", "Miguel is 41 years old"]


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(MemoryCache())
async def extract(data: str) -> UserDetail:
    return await client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


async def main() -> None:
    users = await asyncio.gather(*[extract(item) for item in PEOPLE * 10])
    again = await extract.cache_map(PEOPLE * 10, concurrency=4)
    print(f"{[user.name for user in users[:3]]} and so on: {len(users)} answers, twice")
    print(f"{paid_calls()} paid calls; {extract.cache_info()}")
    assert [user.name for user in users] == [user.name for user in again]
    assert paid_calls() == 3


if __name__ == "__main__":
    asyncio.run(main())
