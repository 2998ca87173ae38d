"""Pydantic AI: an `Agent` with an ``output_type``, sync and async.

Its `AgentRunResult` holds the state of a run, which is refused with a warning; return the
``output``, and with it what you count later. Model, instructions and settings of an agent are *not*
part of the key, and ``version=source_version`` does not see them: when they change, the old answers
come back. So say them in ``version=``, or make the model an argument. An agent that is passed in
has no key, since no other process could recognise it: leave it out, and pass what tells it from
others.

On Python 3.10 pip installs the last release that supports it, 2.54, with which this runs as well.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from pydantic import BaseModel
from pydantic_ai import Agent, RunUsage

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


agent = Agent("openai:gpt-4o-mini", output_type=UserDetail)


@instructor_cache(memory, version="gpt-4o-mini/prompt-1")
async def extract(data: str) -> tuple[UserDetail, RunUsage]:
    result = await agent.run(data)
    return result.output, result.usage


@instructor_cache(memory, version="gpt-4o-mini/prompt-1")
def extract_sync(data: str) -> UserDetail:
    return agent.run_sync(data).output


@instructor_cache(memory, ignore=("agent",))
def extract_with(agent: Agent[None, UserDetail], data: str, model: str) -> UserDetail:
    return agent.run_sync(data, model=model).output


async def show_async() -> None:
    first, second = await extract("Sarah is 30 years old"), await extract("Sarah is 30 years old")
    user, usage = second
    print(f"{user!r} for {usage.total_tokens} tokens, {provider.calls} paid of 2 calls")
    assert first == second
    assert provider.calls == 1


def show_sync() -> None:
    first, second = extract_sync("Jason is 25 years old"), extract_sync("Jason is 25 years old")
    print(f"{second!r}, {provider.calls} paid of 4 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert provider.calls == 2

    first, second = (extract_with(agent, "Miguel is 41", "openai-chat:gpt-4o") for _ in range(2))
    print(f"{second!r}, {provider.calls} paid of 6 calls")
    assert first == second == UserDetail(name="Miguel", age=41)
    assert provider.calls == 3


if __name__ == "__main__":
    asyncio.run(show_async())
    show_sync()  # last: run_sync leaves an event loop behind, which asyncio.run would lose
