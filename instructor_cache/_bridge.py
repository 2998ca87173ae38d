"""The whole difference between the two colours of function, sync and async.

The policy is written once, as coroutines. For an async caller they run as usual. For a sync
caller every leaf is wrapped with `inline`, so nothing ever suspends, and `drive` runs the whole
coroutine to its end on the caller's own stack: no event loop, no thread.

asyncio is imported where it is used: whoever is async has it already, the others save 20 ms.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from threading import TIMEOUT_MAX
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Stopped(Exception):
    """Carries a StopIteration out of a coroutine, which it could not leave by itself."""


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, right here, and give its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    except _Stopped as stopped:
        raise stopped.args[0] from None
    coroutine.close()
    raise RuntimeError("a sync call must not suspend: one of its leaves is not inline")


def inline(func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Give a sync function an async face that never suspends."""

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return func(*args, **kwargs)
        except StopIteration as error:
            raise _Stopped(error) from None

    return call


def threaded(func: Callable[P, T]) -> Callable[P, Awaitable[T]]:
    """Give a blocking function an async face by running it in a worker thread."""

    def work(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return func(*args, **kwargs)
        except StopIteration as error:  # which no future could hold
            raise _Stopped(error) from error

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        return await asyncio.to_thread(work, *args, **kwargs)

    return call


async def wait_blocking(future: Future[T], seconds: float) -> bool:
    """Wait for *future* on the caller's thread; tell whether it was done in time."""
    return bool(wait({future}, min(seconds, TIMEOUT_MAX)).done)


async def wait_async(future: Future[T], seconds: float) -> bool:
    """Wait for *future* on the running loop; being cancelled leaves it untouched."""
    import asyncio

    waiting = asyncio.wrap_future(future)
    waiting.add_done_callback(lambda done: done.cancelled() or done.exception())  # told elsewhere
    return bool((await asyncio.wait({waiting}, timeout=seconds))[0])
