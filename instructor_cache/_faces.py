"""What users call in place of their function: one of the same kind."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from ._bridge import drive
from ._calls import Calls
from ._lane import Lane
from ._miss import MISS
from ._modes import as_of, opened
from .returns import ReturnType

Func = Callable[..., Any]


def face_of(func: Func, calls: Calls, lane: Lane, *, is_async: bool) -> Func:
    """Give a function, coroutine function or generator function that answers like *func*."""
    answer = _answering_later(calls, lane) if is_async else _answering(calls, lane)
    if inspect.isgeneratorfunction(func):
        return _generating(answer)
    if inspect.isasyncgenfunction(func):
        return _generating_later(answer)
    if is_async and not inspect.iscoroutinefunction(func):  # one that gives an async iterator
        return _generating_later_in_mode(answer)
    return answer


def _answering(calls: Calls, lane: Lane) -> Func:
    def answer(*args: Any, **kwargs: Any) -> Any:
        if (answer := lane.answer(args, kwargs)) is not MISS:
            return answer
        return drive(calls.call(*args, **kwargs))

    return answer


def _answering_later(calls: Calls, lane: Lane) -> Func:
    async def answer(*args: Any, **kwargs: Any) -> Any:
        answer = await lane.fetch(args, kwargs) if lane.waits else lane.answer(args, kwargs)
        if answer is not MISS:
            return answer
        return await calls.call(*args, **kwargs)

    return answer


def _generating(answer: Func) -> Func:
    def generate(*args: Any, **kwargs: Any) -> Any:
        yield from answer(*args, **kwargs)

    return generate


def _generating_later(answer: Func) -> Func:
    async def generate(*args: Any, **kwargs: Any) -> Any:
        async with aclosing(await answer(*args, **kwargs)) as items:
            async for item in items:
                yield item

    return generate


def _generating_later_in_mode(answer: Func) -> Func:
    """The same in the mode of the call, for what is not a generator function to its callers."""

    async def answer_in(mode: Any, args: Any, kwargs: Any) -> Any:
        with as_of(mode):
            return await answer(*args, **kwargs)

    generate = _generating_later(answer_in)
    return lambda *args, **kwargs: generate(opened(), args, kwargs)


def whole(face: Func, returned: ReturnType) -> Func:
    """Give what calls *face* and has all items come before it gives the stream."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return returned.replay(list(face(*args, **kwargs)))

    async def call_later(*args: Any, **kwargs: Any) -> Any:
        items = face(*args, **kwargs)
        items = await items if inspect.isawaitable(items) else items
        return returned.replay([item async for item in items])

    return call_later if returned.is_async else call
