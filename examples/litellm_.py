"""litellm: ``completion(..., response_format=UserDetail)``, sync and async.

Each model has a name that begins with its provider's, and is an argument like any other, so that
two models never share an answer. Its releases want openai 2: it can't be installed beside openai 3,
and has an extra of its own, ``pip install "instructor-cache[litellm]"``.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from litellm import Usage, acompletion, completion
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
async def extract_with_usage(data: str) -> tuple[UserDetail, Usage]:
    messages = [{"role": "user", "content": data}]
    answer = await acompletion(
        model="openai/gpt-4o-mini", messages=messages, response_format=UserDetail
    )
    return UserDetail.model_validate_json(answer.choices[0].message.content), answer.usage


async def main() -> None:
    first, second = extract("Jason is 25 years old"), extract("Jason is 25 years old")
    print(f"{second!r}, {provider.calls} paid of 2 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert provider.calls == 1

    first = await extract_with_usage("Sarah is 30 years old")
    second = await extract_with_usage("Sarah is 30 years old")
    user, usage = second
    print(f"{user!r} for {usage.total_tokens} tokens, {provider.calls} paid of 4 calls")
    assert first == second
    assert provider.calls == 2

    extract("Jason is 25 years old", model="openai/gpt-4o")
    print(f"{provider.calls} paid, as another model was asked")
    assert provider.calls == 3


if __name__ == "__main__":
    asyncio.run(main())
