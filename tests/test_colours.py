"""Functions of one colour that give a stream of the other one answer as without a cache."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Iterator
from typing import Any

import instructor
import openai
import pytest
from openai_server import OpenAIServer
from pydantic import BaseModel

from instructor_cache import InstructorCacheWarning, MemoryCache, instructor_cache, refresh


class Item(BaseModel):
    n: int


PLAIN = [Iterator[Item], Iterable[Item], Generator[Item, None, None]]


class Source:
    """Gives three items, and counts how often."""

    def __init__(self) -> None:
        self.calls = 0

    def plain(self) -> Iterator[Item]:
        self.calls += 1
        yield from (Item(n=n) for n in range(3))

    async def later(self) -> AsyncIterator[Item]:
        for item in self.plain():
            await asyncio.sleep(0)
            yield item


@pytest.fixture
def source() -> Source:
    return Source()


THREE = [Item(n=n) for n in range(3)]


@pytest.mark.parametrize("returns", PLAIN)
async def test_a_coroutine_function_may_give_a_plain_iterator(returns: Any, source: Source):
    """What it gives is iterated over without waiting, the first time, together and from a hit."""

    @instructor_cache(MemoryCache(), returns=returns)
    async def ask() -> Any:
        await asyncio.sleep(0)
        return source.plain()

    first, second = await asyncio.gather(ask(), ask())
    hit = await ask()
    assert next(hit) == THREE[0] and list(hit) == THREE[1:]
    assert list(first) == list(second) == THREE and source.calls == 1
    with refresh():
        assert list(await ask()) == THREE
    assert source.calls == 2


@pytest.mark.parametrize("returns", PLAIN)
async def test_an_async_stream_stays_one_under_any_annotation(returns: Any, source: Source):
    """A coroutine function that promises a plain iterator and gives an async one keeps that."""

    @instructor_cache(MemoryCache(), returns=returns)
    async def ask() -> Any:
        return source.later()

    for _ in range(2):
        assert [item async for item in await ask()] == THREE
    assert source.calls == 1


async def test_a_plain_iterator_that_was_not_promised_is_given_whole(source: Source):
    """Under `-> Item` it comes as it is, then as its last item; the remedy is what it is."""

    @instructor_cache(MemoryCache())
    async def ask() -> Item:
        return source.plain()  # type: ignore[return-value]

    with pytest.warns(InstructorCacheWarning, match="annotate it `-> Iterator"):
        assert list(await ask()) == THREE
    assert list(await ask()) == THREE[-1:]


@pytest.mark.parametrize("returns", [Item, Iterable[Item]])
async def test_a_plain_function_may_give_an_async_stream(returns: Any, source: Source):
    """It is passed on, uncached, and a warning names the annotation with which it is kept."""

    @instructor_cache(MemoryCache(), returns=returns)
    def ask() -> Any:
        return source.later()

    with pytest.warns(InstructorCacheWarning, match="annotate it `-> AsyncIterator"):
        assert [item async for item in ask()] == THREE
    with refresh():
        assert [item async for item in ask()] == THREE
    assert source.calls == 2


async def test_several_tools_of_an_async_client_are_cached_by_the_decorator():
    """instructor gives their answers by a plain generator, also to who waited for it."""
    with OpenAIServer() as server:
        sdk = openai.AsyncOpenAI(base_url=server.url, api_key="none")
        client: Any = instructor.from_openai(sdk, mode=instructor.Mode.PARALLEL_TOOLS)

        @instructor_cache(MemoryCache())
        async def ask(text: str) -> Iterable[Item]:
            messages = [{"role": "user", "content": text}]
            return await client.create(response_model=Iterable[Item], model="m", messages=messages)  # type: ignore[no-any-return]

        first, hit = list(await ask("a")), list(await ask("a"))
        assert first == hit != [] and server.calls == 1
