"""Pydantic AI: an `Agent` with an ``output_type``, sync and async."""

from __future__ import annotations

import asyncio

from _provider import local_provider
from pydantic import BaseModel
from pydantic_ai import Agent

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


agent = Agent("openai:gpt-4o-mini", output_type=UserDetail)


@instructor_cache(memory)
def extract(data: str) -> UserDetail:
    return agent.run_sync(data).output


@instructor_cache(memory)
async def extract_async(data: str) -> UserDetail:
    return (await agent.run(data)).output


def main() -> None:
    jason = "Jason is 25 years old"
    answers = [extract(jason), extract(jason)]
    print(f"{answers[1]!r}, {provider.calls} paid of 2 calls")
    answers += [asyncio.run(extract_async(jason)), asyncio.run(extract_async(jason))]
    print(f"{answers[3]!r}, {provider.calls} paid of 4 calls")
    assert answers == [UserDetail(name="Jason", age=25)] * 4
    assert provider.calls == 2


if __name__ == "__main__":
    main()
