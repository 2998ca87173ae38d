"""Streams of a client, with a look at their beginning: only then it is known who is asked."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any

__all__ = ["begun", "begun_later"]

_NONE = object()


def begun(items: Generator[Any], then: Callable[[Any], Any]) -> Generator[Any]:
    """Give *items*, the first of which is there, or its error raised; *then* is called once.

    So a call fails when it is made, as instructor's own do, and not when it is iterated over.
    """
    first = next(items, _NONE)
    then(None)
    return _with(first, items)


def _with(first: Any, items: Generator[Any]) -> Generator[Any]:
    with closing(items):
        if first is not _NONE:
            yield first
        yield from items


async def begun_later(
    items: AsyncGenerator[Any], then: Callable[[Any], Any]
) -> AsyncGenerator[Any]:
    """Do the same for an async stream: once awaited, the first item is there."""
    first = await anext(items, _NONE)
    then(None)
    return _with_later(first, items)


async def _with_later(first: Any, items: AsyncGenerator[Any]) -> AsyncGenerator[Any]:
    async with aclosing(items):
        if first is not _NONE:
            yield first
        async for item in items:
            yield item
