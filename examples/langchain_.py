"""LangChain: ``ChatOpenAI(...).with_structured_output(UserDetail)``, sync and async.

A chain that stands outside the function works as it is, but model, prompt and settings in it are
*not* part of the key, and ``version=source_version`` does not see them: when they change, the old
answers come back. So say them in ``version=``, or make the model an argument. A chain that is
passed in has no key, since no other process could recognise it: leave it out, and pass what tells
it from others. With ``include_raw=True`` the message that brought the answer is kept beside it.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from langchain_core.messages import AIMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


llm = ChatOpenAI(model="gpt-4o-mini", temperature=0)
chain = llm.with_structured_output(UserDetail)
chain_with_message = llm.with_structured_output(UserDetail, include_raw=True)


@instructor_cache(memory, version="gpt-4o-mini/prompt-1")
def extract(data: str) -> UserDetail:
    return chain.invoke(data)


@instructor_cache(memory, ignore=("llm",))
def extract_with(llm: ChatOpenAI, data: str, model: str) -> UserDetail:
    return llm.with_structured_output(UserDetail).invoke(data, model=model)


@instructor_cache(memory, version="gpt-4o-mini/prompt-1")
async def extract_with_message(data: str) -> tuple[UserDetail, AIMessage]:
    answer = await chain_with_message.ainvoke(data)
    return answer["parsed"], answer["raw"]


async def main() -> None:
    first, second = extract("Jason is 25 years old"), extract("Jason is 25 years old")
    print(f"{second!r}, {provider.calls} paid of 2 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert provider.calls == 1

    first, second = (extract_with(llm, "Miguel is 41", "gpt-4o") for _ in range(2))
    print(f"{second!r}, {provider.calls} paid of 4 calls")
    assert first == second == UserDetail(name="Miguel", age=41)
    assert provider.calls == 2

    first = await extract_with_message("Sarah is 30 years old")
    second = await extract_with_message("Sarah is 30 years old")
    user, message = second
    tokens = message.usage_metadata["total_tokens"]
    print(f"{user!r} for {tokens} tokens, {provider.calls} paid of 6 calls")
    assert first == second
    assert provider.calls == 3


if __name__ == "__main__":
    asyncio.run(main())
