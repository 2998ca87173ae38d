"""Answers that hold an iterator are one caller's: who else asks gets one of his own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from instructor_cache import MemoryCache, instructor_cache

pytestmark = pytest.mark.filterwarnings("ignore::instructor_cache.UnstorableResultWarning")


class Tags(BaseModel):
    """Pydantic reads such a field when the caller does."""

    tags: Iterable[str]


SHAPES: dict[str, Any] = {
    "field": (Tags, lambda: Tags(tags=["a", "b"]), lambda answer: answer.tags),
    "list": (list[Tags], lambda: [Tags(tags=["a", "b"])], lambda answer: answer[0].tags),
    "pair": (
        tuple[Any, Tags],
        lambda: (iter(["a", "b"]), Tags(tags=[])),
        lambda answer: answer[0],
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_callers_at_once_read_all_of_it(shape: str):
    """Concurrent callers do not share what only one of them could read."""
    returns, make, inner = SHAPES[shape]

    @instructor_cache(MemoryCache(), returns=returns)
    async def ask() -> Any:
        await asyncio.sleep(0)
        return make()

    async def read() -> list[str]:
        return list(inner(await ask()))

    assert await asyncio.gather(read(), read(), read()) == [["a", "b"]] * 3


def test_listeners_of_a_stream_read_all_of_its_items():
    """Who joins a stream whose first item is another listener's begins one of his own."""
    calls: list[int] = []

    @instructor_cache(MemoryCache())
    def ask() -> Iterator[Tags]:
        calls.append(1)
        yield Tags(tags=["a"])
        yield Tags(tags=["b"])

    first = ask()
    begun = next(first)
    assert [list(item.tags) for item in ask()] == [["a"], ["b"]]
    assert [list(item.tags) for item in (begun, *first)] == [["a"], ["b"]]
    assert len(calls) == 2
