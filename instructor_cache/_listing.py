"""The keys of a backend, page by page, each page in bounded time, for callers of either colour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from itertools import islice
from math import inf
from time import monotonic
from typing import Any

from ._bridge import ASYNC, SYNC, inline
from ._deadlines import in_time, in_workers
from ._workers import Workers
from .errors import BackendClosed
from .ports import TIMEOUT, is_bounded, is_native

PAGE = 20  # timeouts that a page may take, which is many operations

_SHORTEST, _LONGEST = 0.05, 1.0  # seconds between two attempts

Pages = Callable[[int], Awaitable[list[str]]]


class Listing:
    """The keys below a prefix, page by page; a list that breaks off is begun anew.

    That is tried for *patience* seconds, which begin again when it has come farther than before.
    """

    def __init__(
        self, backend: Any, prefix: str, timeout: float, patience: float, *, for_async: bool
    ) -> None:
        self._begin = partial(list_keys, backend, prefix, timeout, for_async=for_async)
        self._pages = self._begin()
        self._sleep = (ASYNC if for_async else SYNC).sleep
        self._patience, self._until, self._pause = patience, inf, _SHORTEST
        self._seen = self._farthest = 0
        self._is_anew = False

    async def page(self, most: int) -> list[str]:
        """Give the next keys, *most* or fewer, and none at the end."""
        while True:
            try:
                keys = await self._pages(most)
                break
            except Exception as error:
                self._until = min(self._until, monotonic() + self._patience)
                if is_final(error) or monotonic() + self._pause > self._until:
                    raise
            await self._sleep(self._pause)
            self._pause = min(2 * self._pause, _LONGEST)
            self._pages, self._seen, self._is_anew = self._begin(), 0, True
        self._seen += len(keys)
        if self._seen > self._farthest:
            self._farthest, self._until, self._pause = self._seen, inf, _SHORTEST
        return keys

    def is_anew(self) -> bool:
        """Whether the page that was given last is the first of a list that was begun anew."""
        is_anew, self._is_anew = self._is_anew, False
        return is_anew


def list_keys(
    backend: Any, prefix: str, timeout: float, *, for_async: bool, is_urgent: bool = False
) -> Pages:
    """Give what gives the next *n* keys that begin with *prefix*, fewer or none at the end.

    One operation of *backend* takes *timeout* seconds at most. Where it sees to that itself, a page
    may take many, unless the caller *is_urgent*.
    Raises TypeError for a backend that can't list its keys.
    """
    limit = PAGE * (timeout or TIMEOUT)
    if for_async and is_native(backend) and hasattr(backend, "ascan"):
        return in_time(_async_pages(backend.ascan(prefix)), limit)
    if not hasattr(backend, "scan"):
        raise TypeError(
            f"found a {type(backend).__name__}, which can't list its keys; wanted a source with "
            f"scan(prefix), or ascan(prefix) for coroutines: add one of them"
        )
    pages = _pages(backend, prefix)
    if is_bounded(backend) and not for_async and not is_urgent:
        return inline(pages)
    return in_workers(pages, limit, Workers(type(backend).__name__), for_async=for_async)


def is_final(error: Exception) -> bool:
    """Whether *error* is what a backend goes on to answer, however often it is asked."""
    return isinstance(error, BackendClosed) or type(error).__name__ == "NoPermissionError"


async def count_keys(backend: Any, prefix: str, *, for_async: bool) -> int | None:
    """Give about how many keys begin with *prefix*; None where that is not known at once."""

    def count() -> int | None:
        if (count := getattr(backend, "count", None)) is not None:
            return count(prefix)  # type: ignore[no-any-return]
        return None if prefix else len(backend)

    workers = Workers(type(backend).__name__)
    try:
        return await in_workers(count, 2 * TIMEOUT, workers, for_async=for_async)()
    except Exception:  # it is only for show
        return None


def _pages(backend: Any, prefix: str) -> Callable[[int], list[str]]:
    keys: Any = None

    def page(most: int) -> list[str]:
        nonlocal keys
        keys = iter(backend.scan(prefix)) if keys is None else keys
        return list(islice(keys, most))

    return page


def _async_pages(keys: AsyncIterator[str]) -> Callable[[int], Any]:
    async def page(most: int) -> list[str]:
        found: list[str] = []
        while len(found) < most:
            try:
                found.append(await keys.__anext__())
            except StopAsyncIteration:
                break
        return found

    return page
