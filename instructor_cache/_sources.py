"""Sync iterators in the form in which coroutines read async ones, and back."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import suppress
from inspect import isawaitable
from typing import Any

from typing_extensions import Self

from ._bridge import drive


class Source:
    """Gives what *iterable* gives, and closes it if it is left before its end.

    No async generator, as a loop that ends would end those that its thread has begun.
    """

    def __init__(self, iterable: Any) -> None:
        self._iterable, self._has_ended = iterable, False
        self._is_async = hasattr(iterable, "__aiter__")
        self._items: Any = aiter(iterable) if self._is_async else iter(iterable)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        try:
            return await anext(self._items) if self._is_async else next(self._items)
        except StopIteration:
            self._has_ended = True
            raise StopAsyncIteration from None
        except StopAsyncIteration as error:
            if not self._is_async:  # it would pass for an end that it is not
                raise RuntimeError("a sync iterator raised StopAsyncIteration") from error
            self._has_ended = True
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._has_ended:
            return
        close = getattr(self._iterable, "aclose", None) or getattr(self._iterable, "close", None)
        with suppress(Exception):  # what it gave is all that counts
            if close is not None and isawaitable(closing := close()):
                await closing


def driven(items: AsyncGenerator[Any]) -> Generator[Any]:
    """Give *items*, which never wait, to a sync listener."""
    try:
        while True:
            try:
                item = drive(_next(items))
            except StopAsyncIteration:
                return
            yield item
    finally:
        drive(items.aclose())


def _next(items: AsyncGenerator[Any]) -> Any:
    """Ask for an item, unheard by the thread's event loop: it would end *items* with itself."""
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return anext(items)
    finally:
        sys.set_asyncgen_hooks(*hooks)
