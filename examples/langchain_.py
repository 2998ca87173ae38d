"""LangChain: ``ChatOpenAI(...).with_structured_output(UserDetail)``, sync and async.

A chain that stands outside the function is no argument, and works as it is. One that is passed in
has no key, as no other process could recognise it: say what identifies it with ``key=``, or leave
it out with ``ignore=``. LangChain's own cache keeps messages, and parses and validates on every
hit; this one keeps the model.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from langchain_core.runnables import Runnable
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


chain = ChatOpenAI(model="gpt-4o-mini", temperature=0).with_structured_output(UserDetail)


@instructor_cache(memory)
def extract(data: str) -> UserDetail:
    return chain.invoke(data)


@instructor_cache(memory)
async def extract_async(data: str) -> UserDetail:
    return await chain.ainvoke(data)


@instructor_cache(memory, ignore=("any_chain",))
def extract_with(any_chain: Runnable, data: str) -> UserDetail:
    return any_chain.invoke(data)


async def main() -> None:
    jason = "Jason is 25 years old"
    answers = [extract(jason), extract(jason)]
    print(f"{answers[1]!r}, {provider.calls} paid of 2 calls")
    answers += [await extract_async(jason), await extract_async(jason)]
    print(f"{answers[3]!r}, {provider.calls} paid of 4 calls")
    answers += [extract_with(chain, jason), extract_with(chain, jason)]
    print(f"{answers[5]!r}, {provider.calls} paid of 6 calls")
    assert answers == [UserDetail(name="Jason", age=25)] * 6
    assert provider.calls == 3


if __name__ == "__main__":
    asyncio.run(main())
