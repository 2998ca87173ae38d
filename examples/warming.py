"""Answers that are there before anybody asks.

The published `warm_cache` started all queries at once, whatever the provider's rate limit, hid
their errors, and logged that all had been warmed. This one takes a concurrency, logs each error,
and gives how many queries have an answer now.
"""

from __future__ import annotations

import asyncio
import logging

from _client import connect_async, paid_calls
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache, warm_cache

client = connect_async()
logging.getLogger("instructor_cache").setLevel(logging.CRITICAL)  # we print what went wrong


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(MemoryCache())
async def extract(data: str) -> UserDetail:
    if not data:
        raise ValueError("found an empty text")
    return await client.chat.completions.create(
        model="gpt-4o-mini",
        response_model=UserDetail,
        messages=[{"role": "user", "content": data}],
    )


async def main() -> None:
    queries = ["Jason is 25 years old", "Sarah is 30 years old", ""]
    warmed = await warm_cache(extract, queries, concurrency=2)
    paid = paid_calls()
    print(f"warmed {warmed} of {len(queries)} queries with {paid} paid calls")
    print(f"{await extract('Sarah is 30 years old')!r}, {paid_calls() - paid} paid when asked")
    assert (warmed, paid, paid_calls()) == (2, 2, 2)


if __name__ == "__main__":
    asyncio.run(main())
