"""Anthropic's own client: ``messages.parse``, and a tool that the model must use, sync and async.

No local rules imitate Claude: the answers are on record, in `data/anthropic_messages.json`, in the
form in which the API gives them. A prompt that differs from the recorded ones gets an error.
"""

from __future__ import annotations

import asyncio

from _provider import local_provider
from anthropic import Anthropic, AsyncAnthropic
from anthropic.types import Message
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

provider = local_provider()
client, async_client = Anthropic(), AsyncAnthropic()
memory = MemoryCache()


class UserDetail(BaseModel):
    name: str
    age: int


TOOL = {"name": "user_detail", "input_schema": UserDetail.model_json_schema()}


@instructor_cache(memory)
def extract(data: str, model: str = "claude-haiku-4-5") -> UserDetail:
    message = client.messages.parse(
        model=model,
        max_tokens=256,
        messages=[{"role": "user", "content": data}],
        output_format=UserDetail,
    )
    return message.parsed_output


@instructor_cache(memory)
async def extract_with_message(data: str) -> tuple[UserDetail, Message]:
    message = await async_client.messages.create(
        model="claude-haiku-4-5",
        max_tokens=256,
        messages=[{"role": "user", "content": data}],
        tools=[TOOL],
        tool_choice={"type": "tool", "name": "user_detail"},
    )
    return UserDetail.model_validate(message.content[0].input), message


async def main() -> None:
    first, second = extract("Jason is 25 years old"), extract("Jason is 25 years old")
    print(f"{second!r}, {provider.calls} paid of 2 calls")
    assert first == second == UserDetail(name="Jason", age=25)
    assert provider.calls == 1

    first = await extract_with_message("Sarah is 30 years old")
    second = await extract_with_message("Sarah is 30 years old")
    user, message = second
    print(f"{user!r} for {message.usage.output_tokens} tokens, {provider.calls} paid of 4 calls")
    assert first == second
    assert provider.calls == 2


if __name__ == "__main__":
    asyncio.run(main())
