"""Work that is waited for only so long, in either colour."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from ._bridge import Wait, carried, look_at, wait_async, wait_blocking
from ._workers import Workers

if TYPE_CHECKING:
    import asyncio

P = ParamSpec("P")
T = TypeVar("T")


def in_workers(
    func: Callable[P, T], timeout: float, workers: Workers, *, for_async: bool
) -> Callable[P, Awaitable[T]]:
    """Give a blocking *func* a face that raises TimeoutError when a call takes too long.

    It goes on in its thread all the same: nothing can stop it.
    """
    wait: Wait = wait_async if for_async else wait_blocking

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        job = workers.submit(partial(carried(func), *args, **kwargs))
        try:
            while (left := workers.time_left(job, timeout)) > 0:
                if await wait(job, left):
                    return _outcome(job)
        finally:
            job.cancel()  # does nothing once it has begun
        raise _too_late(timeout)

    return call


def in_time(func: Callable[P, Coroutine[Any, Any, T]], timeout: float) -> Callable[P, Awaitable[T]]:
    """Give a coroutine function a face that raises TimeoutError when a call takes too long.

    The call is cancelled then, but not waited for: it may refuse to end.
    """

    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        import asyncio

        task = asyncio.ensure_future(func(*args, **kwargs))
        try:
            if await wait_async(task, timeout):
                return _outcome(task)
            task.add_done_callback(look_at)
        finally:
            task.cancel()
        raise _too_late(timeout)

    return call


def _outcome(done: Future[T] | asyncio.Future[T]) -> T:
    """What the operation gave; not a cancellation, as nobody cancelled the caller."""
    try:
        return done.result()
    except BaseException as error:
        if type(error).__name__ == "CancelledError":
            raise ConnectionError("the backend cancelled its own operation") from error
        raise


def _too_late(timeout: float) -> TimeoutError:
    return TimeoutError(f"no answer within {timeout:g} s")
