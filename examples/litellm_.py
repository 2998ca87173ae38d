"""litellm: ``completion(..., response_format=UserDetail)``, sync and async."""

from __future__ import annotations

import asyncio

from _provider import local_provider
from litellm import acompletion, completion
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(memory)
def extract(data: str, model: str = "openai/gpt-4o-mini") -> UserDetail:
    messages = [{"role": "user", "content": data}]
    answer = completion(model=model, messages=messages, response_format=UserDetail)
    return UserDetail.model_validate_json(answer.choices[0].message.content)


@instructor_cache(memory)
async def extract_async(data: str, model: str = "openai/gpt-4o-mini") -> UserDetail:
    messages = [{"role": "user", "content": data}]
    answer = await acompletion(model=model, messages=messages, response_format=UserDetail)
    return UserDetail.model_validate_json(answer.choices[0].message.content)


async def main() -> None:
    jason = "Jason is 25 years old"
    answers = [extract(jason), extract(jason)]
    print(f"{answers[1]!r}, {provider.calls} paid of 2 calls")
    answers += [await extract_async(jason), await extract_async(jason)]
    print(f"{answers[3]!r}, {provider.calls} paid of 4 calls")
    assert answers == [UserDetail(name="Jason", age=25)] * 4
    assert provider.calls == 2


if __name__ == "__main__":
    asyncio.run(main())
