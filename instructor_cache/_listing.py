"""The keys of a backend, page by page, each page in bounded time, for callers of either colour."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import islice
from typing import Any

from ._bridge import inline
from ._deadlines import in_time, in_workers
from ._workers import Workers
from .ports import TIMEOUT, is_bounded, is_native

_PAGE = 20  # timeouts that a page may take, which is many operations

Pages = Callable[[int], Awaitable[list[str]]]


def list_keys(backend: Any, prefix: str, timeout: float, *, for_async: bool) -> Pages:
    """Give what gives the next *n* keys that begin with *prefix*, fewer or none at the end.

    One operation of *backend* takes *timeout* seconds at most.
    Raises TypeError for a backend that can't list its keys.
    """
    limit = _PAGE * (timeout or TIMEOUT)
    if for_async and is_native(backend) and hasattr(backend, "ascan"):
        return in_time(_async_pages(backend.ascan(prefix)), limit)
    if not hasattr(backend, "scan"):
        raise TypeError(
            f"found a {type(backend).__name__}, which can't list its keys; wanted a source with "
            f"scan(prefix), or ascan(prefix) for coroutines: add one of them"
        )
    pages = _pages(backend, prefix)
    if is_bounded(backend) and not for_async:
        return inline(pages)
    return in_workers(pages, limit, Workers(type(backend).__name__), for_async=for_async)


def count_keys(backend: Any, prefix: str) -> int | None:
    """Give about how many keys begin with *prefix*; None where that is not known at once."""
    try:
        if (count := getattr(backend, "count", None)) is not None:
            return count(prefix)  # type: ignore[no-any-return]
        return None if prefix else len(backend)
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
