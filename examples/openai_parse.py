"""Plain `openai`, without instructor: its own ``parse``, of both APIs, sync and async.

The function returns the model; or, where tokens are counted later, the model together with the
completion, which a hit brings back as the SDK's own class.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
client, async_client = OpenAI(), AsyncOpenAI()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


@instructor_cache(memory)
def extract(data: str, model: str = "gpt-4o-mini") -> UserDetail:
    response = client.responses.parse(model=model, input=data, text_format=UserDetail)
    return response.output_parsed


@instructor_cache(memory)
async def extract_with_completion(data: str) -> tuple[UserDetail, ChatCompletion]:
    completion = await async_client.chat.completions.parse(
        model="gpt-4o-mini",
        response_format=UserDetail,
        messages=[{"role": "user", "content": data}],
    )
    return completion.choices[0].message.parsed, completion


async def main() -> None:
    first, second = extract("Jason is 25 years old"), extract("Jason is 25 years old")
    print(f"{second!r}, {provider.calls} paid of 2 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert provider.calls == 1

    first = await extract_with_completion("Sarah is 30 years old")
    second = await extract_with_completion("Sarah is 30 years old")
    user, completion = second
    print(f"{user!r} for {completion.usage.total_tokens} tokens, {provider.calls} paid of 4 calls")
    assert first == second
    assert provider.calls == 2


if __name__ == "__main__":
    asyncio.run(main())
